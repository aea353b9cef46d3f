"""From a section of the config with a `_target_` to the object it names, validated field by field."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from inspect import isabstract
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mage.errors import UserError
from runners.choices import target_in, target_of, targets_of
from runners.findings import check_integers, first_error, shown, unknown_field
from runners.settings import ROOT, Settings
from tasks.errors import TaskError
from tasks.task import Task

CONF = ROOT / "conf"
NAMED = 3  # choices of a class that a message names


def target_class(section: str, config: Mapping[str, Any], kind: type = object) -> type:
    """Import the class that `_target_` names, which must be a `kind`. Raises `UserError`."""
    target = config.get("_target_")
    if not isinstance(target, str) or "." not in target:
        raise UserError(f"{section}._target_={shown(target)}: not the dotted name of a class.")
    module_name, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise UserError(f"{section}._target_={target}: {error}.") from error
    if not (isinstance(found, type) and is_dataclass(found)) or isabstract(found):
        raise UserError(f"{section}._target_={target}: not a dataclass that can be made.")
    if not issubclass(found, kind):
        raise UserError(f"{section}._target_={target}: not a {kind.__name__}.")
    return found


def build(section: str, config: Mapping[str, Any], kind: type = object) -> Any:
    """Make the dataclass that `_target_` names from the section's other fields; `name` is the label of the choice.

    Raises `UserError` for a class that is no `kind`, or lacks fields of the choice, for an unknown field, with the
    nearest one, for one that only an experiment has, where the class names its `EXPERIMENTS`, and for a value of
    another type than declared.
    """
    target: Any = target_class(section, config, kind)
    allowed = {field.name: field.type for field in fields(target) if field.init}
    options = {key: value for key, value in config.items() if key not in ("_target_", "name")}
    for key in options:
        if key not in allowed:
            raise _stray_field(section, config, key, allowed)
    if experiments := getattr(target, "EXPERIMENTS", ()):
        needed = [f.name for f in fields(target) if f.init and f.default is f.default_factory is MISSING]
        for key in needed:
            if key not in options:
                named = " or ".join(f"+experiment={experiment}" for experiment in experiments)
                raise UserError(f"{section}={config.get('name')} needs {section}.{key} of an experiment: add {named}.")
    check_integers(options, f"{section}.")
    try:  # as JSON: a list is a tuple there, yet true is no 1 and '1' is no 1
        return _adapter(target).validate_json(json.dumps(options), strict=True)
    except ValidationError as error:
        cause = error.errors()[0].get("ctx", {}).get("error")
        if cause is not None:  # the class's own message names field, value and what is allowed
            raise UserError(str(cause)) from error
        raise first_error(error, target, section) from error


def _stray_field(section: str, config: Mapping[str, Any], key: str, allowed: Iterable[str]) -> UserError:
    """Return the error for a field that the class lacks: a slip, or one of a choice that is for another class."""
    target, choice = config["_target_"], f"{section}={config['name']}" if "name" in config else ""
    own = target_of(CONF / section, str(config.get("name")))
    if own in (None, target):
        return unknown_field(f"{section}.{key}", allowed, choice)
    told = f"{section}._target_={target}: it has no field {key}, which {choice} may set."
    targets = targets_of(CONF / section)
    fitting = [name for name in targets if targets[name] == target]
    fitting = fitting or [name for name in targets if _has_experiment_for(target, section, targets[name])]
    if not fitting:
        return UserError(f"{told} Allowed: {own}, or another choice of {section}.")
    named = " or ".join(f"{section}={name}" for name in fitting[:NAMED])
    return UserError(f"{told} Add {named}{' or another of its choices' if len(fitting) > NAMED else ''}.")


def _has_experiment_for(target: str, section: str, own: str) -> bool:
    """Whether the class `own` of a choice needs an experiment, and one of these puts `target` in its place."""
    experiments = getattr(target_class(section, {"_target_": own}), "EXPERIMENTS", ())
    return any(target_in(CONF / "experiment" / f"{each}.yaml", section) == target for each in experiments)


@lru_cache
def _adapter(target: type) -> TypeAdapter[Any]:
    """The schema of a class: made once, not for every cell of a sweep."""
    return TypeAdapter(target)


def build_task(settings: Settings) -> Task:
    """Make the task of a config and check it against the model's block size. Raises `UserError`."""
    task: Task = build("task", settings.task, Task)
    try:
        task.check_block_size(settings.model.block_size)
    except TaskError as error:
        raise UserError(str(error)) from error
    return task
