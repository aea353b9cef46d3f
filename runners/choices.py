"""Choices of the config read without Hydra: for machines that have little more than torch, and to name their class."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from mage.errors import UserError, unknown_choice

FLOAT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def read_choice(folder: Path, name: str) -> dict[str, Any]:
    """Return the choice `name` of a group of the config: its file over those that its defaults list, as Hydra puts them
    together. Raises `UserError` for one that does not exist, and for defaults other than names and `_self_`."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        raise unknown_choice(folder.name, name, sorted(p.stem for p in folder.glob("[!_]*.yaml")))
    own = _numbers(yaml.safe_load(path.read_text(encoding="utf-8")))
    listed = own.pop("defaults", [])
    if any(not isinstance(base, str) for base in listed) or (listed and listed[-1] != "_self_"):
        raise UserError(f"{path}: defaults={listed}. Allowed: names of the same folder, and _self_ at the end.")
    found: dict[str, Any] = {}
    for base in listed[:-1]:
        found = _over(read_choice(folder, base), found)
    return _over(own, found)


def target_of(folder: Path, name: str) -> str | None:
    """Return the class that the choice `name` of a group, or what it builds on, is for. None where nothing tells, and
    where there is no such choice: a name may be any text."""
    if name not in _files(folder):
        return None
    own = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    bases = [base.partition("@")[0] for base in own.get("defaults", []) if isinstance(base, str)]
    found = [own.get("_target_"), *(target_of(folder, base) for base in bases)]
    return next((target for target in found if target is not None), None)


def targets_of(folder: Path) -> dict[str, str]:
    """Return the class of each choice of a group, by its name. A base of several is no choice."""
    names = (name for name in _files(folder) if not name.rpartition("/")[2].startswith("_"))
    return {name: target for name in names if (target := target_of(folder, name)) is not None}


def target_in(experiment: Path, group: str) -> str | None:
    """Return the class that the file of an experiment puts in the place of the one of a choice of `group`, if any."""
    section = yaml.safe_load(experiment.read_text(encoding="utf-8")).get(group)
    return section.get("_target_") if isinstance(section, dict) else None


def _files(folder: Path) -> list[str]:
    """Return the names of the files of a group, such as `longbench/qasper`."""
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def _over(own: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        below = merged.get(key)
        merged[key] = _over(value, below) if isinstance(value, dict) and isinstance(below, dict) else value
    return merged


def _numbers(value: Any) -> Any:
    """1e-6 is a number to Hydra, and a text to YAML 1.1, which wants a dot in it."""
    if isinstance(value, dict):
        return {key: _numbers(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_numbers(below) for below in value]
    return float(value) if isinstance(value, str) and FLOAT.fullmatch(value) else value
