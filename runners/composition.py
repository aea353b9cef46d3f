"""Composition: from Hydra's override grammar to the resolved configs of a whole sweep, in this process."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from mage.errors import UserError
from runners.refusal import one_line

BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


def compose_sweep(overrides: list[str], folder: Path, *, multirun: bool) -> list[dict[str, Any]] | None:
    """Compose and resolve the configs of a sweep, or of a single run. None: another launcher than Hydra's basic one.

    Raises `UserError` with one line for whatever Hydra refuses.
    """
    with initialize_config_dir(config_dir=str(folder.resolve()), version_base="1.3", job_name="run"):
        loader = GlobalHydra.instance().config_loader()
        try:
            if not multirun:
                return [resolve(loader.load_configuration("config", overrides, RunMode.RUN))]
            master = loader.load_configuration("config", overrides, RunMode.MULTIRUN)
            if master.hydra.launcher._target_ != BASIC_LAUNCHER:
                return None
            return _compose_jobs(master, loader)
        except (HydraException, OmegaConfBaseException) as error:
            raise one_line(error, loader, overrides) from error


def resolve(config: DictConfig) -> dict[str, Any]:
    """Return a composed config as plain data, without Hydra's own part."""
    return {str(key): _plain(config[key]) for key in config if key != "hydra"}


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True, throw_on_missing=True) if OmegaConf.is_config(value) else value


def _compose_jobs(master: DictConfig, loader: ConfigLoader) -> list[dict[str, Any]]:
    """Compose the product of all sweeps.

    Hydra takes tens of milliseconds for a config. It composes one for each choice of groups; sweeps over plain values,
    such as budgets, are set in copies of it, which is what Hydra does last in a composition, too.
    """
    sweeps = _sweeps(master, loader)
    late = [key for key, texts in sweeps.items() if len(texts) > 1 and _is_plain_field(key, master, loader)]
    parser = OverridesParser.create(config_loader=loader)
    values = {text: parser.parse_override(text).value() for key in late for text in sweeps[key]}
    composed: dict[tuple[str, ...], DictConfig] = {}
    configs = []
    for job in itertools.product(*sweeps.values()):
        chosen = dict(zip(sweeps, job))
        early = tuple(text for key, text in chosen.items() if key not in late)
        if early not in composed:
            base = loader.load_sweep_config(master, list(early))
            with open_dict(base):
                base.pop("hydra")
            composed[early] = base
        config = copy.deepcopy(composed[early])
        try:
            for key in late:
                OmegaConf.update(config, key, values[chosen[key]])
        except OmegaConfBaseException:  # no such field under these groups: let Hydra say so
            config = loader.load_sweep_config(master, list(job))
        configs.append(resolve(config))
    return configs


def _sweeps(master: DictConfig, loader: ConfigLoader) -> dict[str, list[str]]:
    """Return the overrides that each key goes through. The command line wins over hydra.sweeper.params."""
    params = [f"{key}={value}" for key, value in (master.hydra.sweeper.params or {}).items()]
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(params + list(master.hydra.overrides.task))
    return {override.get_key_element(): _texts(override) for override in parsed}


def _texts(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if not override.is_discrete_sweep():
        raise UserError(f"{override.input_line}: not a list of values. Allowed: a,b, choice(a,b), range(1,5), glob(*).")
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def _is_plain_field(key: str, master: DictConfig, loader: ConfigLoader) -> bool:
    """Whether `key` names a field that exists, and no group of choices."""
    plain = key.replace(".", "").replace("_", "").isalnum() and not key.startswith("hydra")
    return plain and not loader.get_group_options(key) and OmegaConf.select(master, key) is not None
