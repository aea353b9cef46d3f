"""What Hydra says in many lines, said in one: the field or choice, and the nearest one that exists."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mage.errors import UserError, unknown_choice
from runners.settings import unknown_field


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
        return unknown_field(unknown[1], _siblings(unknown[1], loader, overrides), *choices[-1:])
    ambiguous = re.search(r"Ambiguous value for argument '(.+)'", message)
    if ambiguous:
        return UserError(f"{ambiguous[1]} names several values: add -m to sweep over them.")
    lines = [line.strip() for line in f"{message}\n{error.__cause__ or ''}".splitlines() if line.strip()]
    override = error.override if isinstance(error, OverrideParseException) else ""
    where = f"{override}: " if override not in lines[0] else ""
    return UserError(where + " ".join(line for line in lines if "hydra.cc" not in line))


def refuse_bases(overrides: Sequence[str], loader: ConfigLoader) -> None:
    """Raise `UserError` for a choice such as `model=_hub`: what several choices share is none itself."""
    for override in overrides:
        group, _, values = override.partition("=")
        for value in values.split(","):
            if value.rpartition("/")[2].startswith("_") and loader.get_group_options(group):
                raise unknown_choice(group, value, choices_of(group, loader))


def choices_of(group: str, loader: ConfigLoader) -> list[str]:
    """Return the choices of a group, those of its folders such as `longbench/qasper` too; a base is no choice."""
    own = [name for name in loader.get_group_options(group) if not name.startswith("_")]
    folders = loader.list_groups(group)
    return own + [f"{folder}/{name}" for folder in folders for name in choices_of(f"{group}/{folder}", loader)]


def _siblings(field: str, loader: ConfigLoader, overrides: Sequence[str]) -> list[str]:
    """Return the names that stand where `field` was looked for, under the choices made beside it."""
    others = [override for override in overrides if override.split("=")[0] != field]
    try:
        config = loader.load_configuration("config", others, RunMode.MULTIRUN)
    except (HydraException, OmegaConfBaseException):  # a second slip: the choices of the defaults are told
        config = loader.load_configuration("config", [], RunMode.MULTIRUN)
    node: Any = OmegaConf.to_container(config, resolve=False)
    for part in field.split(".")[:-1]:
        node = node.get(part) if isinstance(node, dict) else None
    return [name for name in node if name not in ("hydra", "_target_")] if isinstance(node, dict) else []
