"""What Hydra says in many lines, said in one: the field or choice, and the nearest one that exists."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from mage.errors import UserError, unknown_choice
from runners.findings import unknown_field
from runners.settings import Settings

NO_NAME = re.compile(r"_.*|null|true|false|[-+]?[0-9.]+", re.IGNORECASE)
"""What is no choice of a group: a base of several, and what Hydra reads as something else than a name."""

OF_A_CELL = ("model", "method", "task", "decoding", "runner")
"""Sections whose fields are part of a cell's identity. Deeper fields, as of `model.chat`, may be absent."""

EMPTY_ITEM = re.compile(r"[=,\[(]\s*,|,\s*([\])]|$)")


def one_line(error: Exception, loader: ConfigLoader, overrides: Sequence[str]) -> UserError:
    """Turn what Hydra or OmegaConf raised while composing `overrides` into one line."""
    message = str(error)
    if isinstance(error, MissingConfigException) and error.options:
        path = (error.missing_cfg_file or "").removesuffix(".yaml")
        group, _, choice = path.rpartition("/") if path.startswith("hydra/") else path.partition("/")
        return unknown_choice(group, choice, choices_of(group, loader))
    unknown = re.search(r"Could not override '([^']+)'", message)
    if unknown:
        group = unknown[1].split(".")[0]
        choices = [override for override in overrides if override.split("=")[0] == group != unknown[1]]
        config = _beside(unknown[1], loader, overrides)
        key = re.search(r"Key '([^']+)' is not in struct", str(error.__cause__))
        siblings = _siblings(unknown[1], config)
        if key and unknown[1].rpartition(".")[2] in siblings:  # a mapping was given that has a field too many
            return unknown_field(f"{unknown[1]}.{key[1]}", _siblings(f"{unknown[1]}.", config), *choices[-1:])
        if siblings:
            return unknown_field(unknown[1], siblings, *choices[-1:])
        near = get_close_matches(unknown[1], _all_fields(config), n=1)  # no such section
        return UserError(f"{unknown[1]} is not a field of the config.{f' Did you mean {near[0]}?' if near else ''}")
    deleted = re.search(r"Could not delete from config\. (?:The value of )?'([^']+)'", message)
    if deleted:
        given = next(o for o in overrides if o.startswith("~") and o[1:].partition("=")[0] == deleted[1])
        return _undeletable(given, _siblings(deleted[1], _beside(given, loader, overrides)))
    ambiguous = re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.+)'", message)
    if ambiguous:
        return UserError(f"{ambiguous[1]} names several values: add -m to sweep over them.")
    if isinstance(error, InterpolationResolutionError):
        return _unresolved(error, overrides)
    if isinstance(error, OverrideParseException):
        if EMPTY_ITEM.search(str(error.override)):
            return UserError(
                f"{error.override}: an item of the list is empty. Allowed: a value between commas, and none at the end."
            )
        return UserError(
            f"{error.override}: not an override. Allowed: field=value; a value with spaces or signs in quotes for "
            "Hydra and for the shell, such as 'name=\"a b\"'."
        )
    lines = [line.strip() for line in f"{message}\n{error.__cause__ or ''}".splitlines() if line.strip()]
    return UserError(" ".join(line for line in lines if "hydra.cc" not in line))


def _unresolved(error: InterpolationResolutionError, overrides: Sequence[str]) -> UserError:
    """Return the error for `${...}` that stands for nothing."""
    # Of a sweep OmegaConf does not know the field.
    given = [o for o in overrides if "${" in o and error.full_key in (None, o.lstrip("+").partition("=")[0])]
    cause = str(error).splitlines()[0].partition("raised while resolving interpolation: ")
    told = (cause[2] or cause[0]).strip('"')
    return UserError(
        f"{given[-1] if given else error.full_key}: {told}. Allowed: a value, or ${{field}} of a field of the config."
    )


def _undeletable(override: str, siblings: Sequence[str]) -> UserError:
    """Return the error for a deletion that Hydra could not do. siblings: what stands where the field was looked for."""
    name = override[1:].partition("=")[0]
    if name.rpartition(".")[2] in siblings:
        refuse_unset([override])
        return UserError(f"{override}: the config has another value there. Allowed: ~{name}, whatever the value.")
    return UserError(f"{override}: {unknown_field(name, siblings)}")


def refuse_repeats(overrides: Sequence[str]) -> None:
    """Raise `UserError` for `budget=1 budget=2`, of which Hydra takes the last. Hydra's own fields are left to it."""
    given: dict[str, list[str]] = {}
    for override in overrides:
        if override.startswith("~") or ("=" in override and not override.startswith("-")):
            given.setdefault(override.partition("=")[0].lstrip("+~").strip(), []).append(override)
    for name, several in given.items():
        if name and len(several) > 1 and not name.startswith(("hydra.", "hydra/")):
            listed = several[0].partition("=")[0].lstrip("~")
            told = f"{name} is given {len(several)} times: {', '.join(several)}."
            raise UserError(f"{told} Allowed: one of them; -m {listed}=a,b for several values.")


def refuse_bases(overrides: Sequence[str], loader: ConfigLoader) -> None:
    """Raise `UserError` for a choice such as `model=_hub`: what several choices share is none itself; and for `=3`."""
    for override in overrides:
        group, _, values = override.partition("=")
        if not group.strip("+~"):
            raise UserError(f"{override}: no field is named. Allowed: field=value.")
        for value in values.split(","):
            if NO_NAME.fullmatch(value.rpartition("/")[2]) and loader.get_group_options(group):
                raise unknown_choice(group, value, choices_of(group, loader))


def refuse_deletions(overrides: Sequence[str], loader: ConfigLoader) -> None:
    """Raise `UserError` for `~task` and the like: what has no default has to be there; and for what is not there."""
    for override in overrides:
        group, _, value = override[1:].partition("=")
        if not override.startswith("~"):
            continue
        field, choices = Settings.model_fields.get(group), choices_of(group, loader)
        if field is not None and field.is_required() and (choices or not value):
            allowed = ", ".join(choices) or f"{group}=value"
            raise UserError(f"{override}: {group} is missing from the config then. Allowed: {allowed}.")


def refuse_unset(overrides: Sequence[str]) -> None:
    """Raise `UserError` for `~method.commit` and the like: what the class puts there is a value like any other, and a
    cell without the field would be the same cell under another identity. What is not there is for Hydra to refuse."""
    for override in overrides:
        name = override[1:].partition("=")[0]
        section, _, field = name.partition(".")
        if override.startswith("~") and section in OF_A_CELL and field and "." not in field:
            raise UserError(f"{override}: a field is given a value, not left out. Allowed: {name}=value.")


def refuse_labels(overrides: Sequence[str], loader: ConfigLoader) -> None:
    """Raise `UserError` for `method.name=quest`, which would put the label of one choice on the results of another.

    A model may have any name that is no choice's: people describe checkpoints of their own on the command line.
    """
    for override in overrides:
        field, _, value = override.lstrip("+").partition("=")
        group = field.removesuffix(".name")
        if field == group or group not in Settings.model_fields or override.startswith("~"):
            continue
        known, chosen = choices_of(group, loader), _chosen(group, overrides, loader)
        names = [name.strip("\"' ") for name in value.split(",")]
        label = next((name for name in names if name != chosen and (name in known or group != "model")), None)
        if label is not None and chosen is not None:
            told = f"{override}: a label of the choice {group}={chosen}."
            allowed = f"{group}={label}, for that {group}" if label in known else f"{chosen}"
            raise UserError(f"{told} Allowed: {allowed}.")


def _chosen(group: str, overrides: Sequence[str], loader: ConfigLoader) -> str | None:
    """Return what a command line chooses of a group, as it is written there or in an experiment. None: no such line."""
    given = [override.partition("=")[2] for override in overrides if override.lstrip("+").partition("=")[0] == group]
    if given:
        return given[-1]
    choices = [o for o in overrides if loader.get_group_options(o.lstrip("+").partition("=")[0])]
    with suppress(HydraException, OmegaConfBaseException):
        hydra = loader.load_configuration("config", choices, RunMode.MULTIRUN).hydra
        swept = (hydra.sweeper.params or {}).get(group)
        return str(hydra.runtime.choices.get(group) if swept is None else swept)
    return None


def refuse_launchers(overrides: Sequence[str], loader: ConfigLoader) -> None:
    """Raise `UserError` for `hydra/launcher=...`: Hydra's launchers get single cells, which then share no prefill."""
    for override in overrides:
        name, _, value = override.lstrip("+").partition("=")
        if name == "hydra/launcher" and value != "basic":
            near = "slurm" if "submitit" in value else "processes" if value == "joblib" else value
            allowed = choices_of("launcher", loader)
            hint = f" Did you mean launcher={near}?" if near in allowed else ""
            listed = ", ".join(f"launcher={choice}" for choice in allowed)
            raise UserError(f"{override}: cells of Hydra's launchers share no prefill.{hint} Allowed: {listed}.")


def choices_of(group: str, loader: ConfigLoader) -> list[str]:
    """Return the choices of a group, those of its folders such as `longbench/qasper` too; a base is no choice."""
    own = [name for name in loader.get_group_options(group) if not name.startswith("_")]
    folders = loader.list_groups(group)
    return own + [f"{folder}/{name}" for folder in folders for name in choices_of(f"{group}/{folder}", loader)]


def _beside(field: str, loader: ConfigLoader, overrides: Sequence[str]) -> dict[str, Any]:
    """Return the config under the choices made beside an override of `field`."""
    others = [override for override in overrides if field not in (override, override.split("=")[0])]
    chosen = [override for override in others if loader.get_group_options(override.lstrip("+").split("=")[0])]
    for given in (others, chosen, []):  # where there is a second slip, the choices alone, or else the defaults
        with suppress(HydraException, OmegaConfBaseException):
            config = loader.load_configuration("config", given, RunMode.MULTIRUN)
            break
    return {str(key): value for key, value in _plain(config).items() if key != "hydra"}


def _plain(config: Any) -> dict[Any, Any]:
    plain = OmegaConf.to_container(config, resolve=False)
    return plain if isinstance(plain, dict) else {}


def _siblings(field: str, config: dict[str, Any]) -> list[str]:
    """Return the names that stand where `field` was looked for."""
    node: Any = config
    for part in field.split(".")[:-1]:
        node = node.get(part) if isinstance(node, dict) else None
    return [name for name in node if name != "_target_"] if isinstance(node, dict) else []


def _all_fields(config: dict[str, Any]) -> list[str]:
    """Return the dotted names of the fields of all sections."""
    return [f"{group}.{name}" for group, node in config.items() if isinstance(node, dict) for name in node]
