"""Composition: from Hydra's override grammar to the resolved configs of a whole sweep, in this process."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from mage.errors import UserError
from runners.refusal import (
    choices_of,
    one_line,
    refuse_bases,
    refuse_deletions,
    refuse_labels,
    refuse_launchers,
    refuse_unset,
)

FREE = ("model.chat.", "model.chat=", "launcher.sbatch.", "launcher.sbatch=")
"""Overrides of nodes without declared fields: the options of a checkpoint's own chat template, and of sbatch."""


def compose_sweep(overrides: list[str], folder: Path, *, multirun: bool) -> list[dict[str, Any]]:
    """Compose and resolve the configs of a sweep, or of a single run.

    Raises `UserError` with one line for whatever Hydra refuses.
    """
    overrides = [f"++{override}" if override.startswith(FREE) else override for override in overrides]
    with initialize_config_dir(config_dir=str(folder.resolve()), version_base="1.3", job_name="run"):
        loader = GlobalHydra.instance().config_loader()
        refuse_bases(overrides, loader)
        refuse_deletions(overrides, loader)
        refuse_launchers(overrides, loader)
        refuse_labels(overrides, loader)
        try:
            if multirun:
                configs = _swept(overrides, loader)
            else:
                configs = [resolve(loader.load_configuration("config", overrides, RunMode.RUN))]
        except (HydraException, OmegaConfBaseException) as error:
            raise one_line(error, loader, overrides) from error
    refuse_unset(overrides)
    return configs


def _swept(overrides: list[str], loader: ConfigLoader) -> list[dict[str, Any]]:
    """Compose and resolve all configs of a sweep."""
    held: list[str] = []
    try:
        master = loader.load_configuration("config", overrides, RunMode.MULTIRUN)
    except (HydraException, OmegaConfBaseException):
        held = _held(overrides, loader)
        master = loader.load_configuration("config", [o for o in overrides if o not in held], RunMode.MULTIRUN)
    seen = {*master.hydra.overrides.task, *held}
    return _compose_jobs(master, loader, [o for o in overrides if o in seen])


def _held(overrides: list[str], loader: ConfigLoader) -> list[str]:
    """Return the overrides of fields that only the choices of a sweep may have.

    Hydra composes the default choice of a swept group first and refuses `task=longbench/lcc,vt task.data=here`.
    """
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(overrides)
    fields = {o.input_line: o.key_or_group.split(".")[0] for o in parsed if "." in o.key_or_group and o.input_line}
    if not fields:
        return []
    master = loader.load_configuration("config", [o for o in overrides if o not in fields], RunMode.MULTIRUN)
    swept = set(master.hydra.sweeper.params or {}) | {o.key_or_group for o in parsed if o.is_sweep_override()}
    return [override for override, group in fields.items() if group in swept]


def resolve(config: DictConfig) -> dict[str, Any]:
    """Return a composed config as plain data, without Hydra's own part."""
    return {str(key): _plain(config[key]) for key in config if key != "hydra"}


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True, throw_on_missing=True) if OmegaConf.is_config(value) else value


def _compose_jobs(master: DictConfig, loader: ConfigLoader, given: list[str]) -> list[dict[str, Any]]:
    """Compose the product of all sweeps. `given`: the overrides of the command line but for Hydra's own.

    Sweeps over plain values, such as budgets, are set in copies of a composed config, which is what Hydra does last in
    a composition, too.
    """
    sweeps = _sweeps(master, loader, given)
    late = [key for key, texts in sweeps.items() if len(texts) > 1 and _is_plain_field(key, master, loader)]
    parser = OverridesParser.create(config_loader=loader)
    values = {text: parser.parse_override(text).value() for key in late for text in sweeps[key]}
    choices = _Choices(master, loader)
    copies: dict[tuple[str, ...], DictConfig] = {}  # each job sets all that is late anew
    configs = []
    for job in itertools.product(*sweeps.values()):
        chosen = dict(zip(sweeps, job))
        early = tuple(text for key, text in chosen.items() if key not in late)
        if early not in copies:
            copies[early] = copy.deepcopy(choices.compose(early))
        config = copies[early]
        try:
            for key in late:
                OmegaConf.update(config, key, values[chosen[key]])
        except OmegaConfBaseException:  # no such field under these groups: let Hydra say so
            config = _job(master, loader, job)
        configs.append(resolve(config))
    return configs


class _Choices:
    """Composes configs that differ in the choices of several groups.

    Hydra takes a tenth of a second for a config. It composes the first and, for each other choice, one that differs
    from the first in that alone. Where such a choice changes nothing outside its own group, the rest is put together.
    """

    def __init__(self, master: DictConfig, loader: ConfigLoader) -> None:
        self._master, self._loader = master, loader
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self._nodes: dict[str, DictConfig | None] = {}
        self._first: tuple[str, ...] = ()

    def compose(self, overrides: tuple[str, ...]) -> DictConfig:
        """Return the config of `overrides`, one of each sweep, without Hydra's own part. Raises `UserError`."""
        self._first = self._first or overrides
        changes = [place for place, text in enumerate(overrides) if text != self._first[place]]
        nodes = {overrides[place].partition("=")[0]: self._node(overrides[place], place) for place in changes}
        if len(changes) < 2 or not all(nodes.values()):
            return self._direct(overrides)
        together = copy.copy(self._direct(self._first))
        with open_dict(together):
            for group, node in nodes.items():
                together[group] = node
        return together

    def _node(self, text: str, place: int) -> DictConfig | None:
        """Return what one other choice makes of its group, None where it changes anything else, too."""
        if text not in self._nodes:
            group = text.partition("=")[0]
            config = self._direct((*self._first[:place], text, *self._first[place + 1 :]))
            first, other = (OmegaConf.to_container(c, resolve=False) for c in (self._direct(self._first), config))
            assert isinstance(first, dict) and isinstance(other, dict)
            own = group in first and {**first, group: None} == {**other, group: None}
            self._nodes[text] = config[group] if own else None
        return self._nodes[text]

    def _direct(self, overrides: tuple[str, ...]) -> DictConfig:
        if overrides not in self._composed:
            config = _job(self._master, self._loader, overrides)
            with open_dict(config):
                config.pop("hydra")
            self._composed[overrides] = config
        return self._composed[overrides]


def _job(master: DictConfig, loader: ConfigLoader, overrides: Sequence[str]) -> DictConfig:
    """Compose one config of a sweep. Raises `UserError` that tells of this config's choices."""
    try:
        return loader.load_sweep_config(master, list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise one_line(error, loader, overrides) from error


def _sweeps(master: DictConfig, loader: ConfigLoader, given: list[str]) -> dict[str, list[str]]:
    """Return the overrides that each key goes through. The command line wins over hydra.sweeper.params."""
    params = [f"{key}={value}" for key, value in (master.hydra.sweeper.params or {}).items()]
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(params + given)
    return {override.get_key_element(): _texts(override, loader) for override in parsed}


def _texts(override: Override, loader: ConfigLoader) -> list[str]:
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if not override.is_discrete_sweep():
        raise UserError(f"{override.input_line}: not a list of values. Allowed: a,b, choice(a,b), range(1,5), glob(*).")
    wanted = override.value()
    if isinstance(wanted, Glob):  # Hydra's own looks at the top of a group only
        choices = wanted.filter(choices_of(override.key_or_group, loader))
        if not choices:
            raise UserError(f"{override.input_line}: matches no choice of {override.key_or_group}.")
        return [f"{override.get_key_element()}={choice}" for choice in choices]
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def _is_plain_field(key: str, master: DictConfig, loader: ConfigLoader) -> bool:
    """Whether `key` names a field that exists, and no group of choices."""
    plain = key.replace(".", "").replace("_", "").isalnum() and not key.startswith("hydra")
    return plain and not loader.get_group_options(key) and OmegaConf.select(master, key) is not None
