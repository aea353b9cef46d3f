"""What pydantic finds wrong in a config, said in one line: the field, its value, what is allowed, the nearest match."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import ValidationError

from mage.errors import UserError, unknown_choice

KINDS = {
    "int": "an integer",
    "finite_number": "a finite number",
    "float": "a number",
    "bool": "true, false",
    "string": "a text",
    "dict": "a mapping such as {a: 1}",
    "mapping": "a mapping such as {a: 1}",
    "tuple": "a list",
    "list": "a list",
    "sequence": "a list",
    "is_instance_of": "a list",  # the only class that a field declares is Sequence
    "none": "null",
}
"""What a type is called in the message for a value of another; pydantic's names begin with these words."""

OTHERWISE = re.compile(r"\s*([-+]?[0-9.][0-9._]*(e[-+]?[0-9]+)?|[-+]?inf|nan|true|false|null|)\s*", re.IGNORECASE)
"""Texts that are numbers, true, false or null where they have no quotes, and those that cannot be seen without."""

BOUNDS = {"greater_than_equal": "{ge} and more", "greater_than": "more than {gt}"}
BOUNDS |= {"less_than_equal": "at most {le}", "less_than": "less than {lt}"}
BOUNDS |= {"string_too_short": "a text that is not empty", "string_pattern_mismatch": "a text that matches {pattern}"}


def first_error(error: ValidationError, owner: Any, prefix: str = "") -> UserError:
    """Turn the first finding of pydantic into one line: field, value, what is allowed.

    owner: the class that declares the fields. prefix: of their names. A message of our own validators is told as it is.
    """
    found = error.errors(include_url=False)
    first = found[0]
    path = _path(first["loc"])
    name = ".".join([*([prefix] if prefix else []), *path])
    if first["type"] == "extra_forbidden":
        return unknown_field(name, _declared(_owner_of(owner, path)))
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "missing":
        return UserError(f"{name} is missing from the config.")
    if first["type"] == "value_error":
        return UserError(f"{name}={shown(first['input'])}: {message}.")
    if choices := re.findall(r"'([^']*)'", first.get("ctx", {}).get("expected", "")):
        return unknown_choice(name, shown(first["input"]), choices)
    # One of several types, such as an integer or a list of them: each has a finding of its own.
    same = [finding for finding in found if _path(finding["loc"]) == path]
    allowed = dict.fromkeys(_allowed(finding) for finding in same)
    if path and _takes_null(_declared(_owner_of(owner, path)).get(path[-1])):
        allowed["null"] = None
    value = min(same, key=lambda finding: len(finding["loc"]))["input"]
    return UserError(f"{name}={typed(value)} is not allowed. Allowed: {', or '.join(allowed)}.")


def check_integers(config: Mapping[str, Any], prefix: str = "") -> None:
    """Raise `UserError` for an integer that no tensor can hold."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            check_integers(value, f"{prefix}{key}.")
            continue
        for item in value if isinstance(value, list | tuple) else (value,):
            if isinstance(item, int) and abs(item) >= 2**63:
                raise UserError(f"{prefix}{key}={shown(value)} is out of range. Allowed: integers below 2^63.")


def unknown_field(name: str, allowed: Iterable[str], beside: str = "") -> UserError:
    """Return the error for a field that does not exist, with the nearest one that does. `beside`: the choice made."""
    parent, _, last = name.rpartition(".")
    names = sorted(allowed)
    near = get_close_matches(last, names, n=1)
    hint = f" Did you mean {parent + '.' if parent else ''}{near[0]}?" if near else ""
    listed = f" Allowed: {', '.join(names)}." if names else ""
    where = f" with {beside}" if beside else ""
    return UserError(f"{name} is not a field of the config{where}.{hint}{listed}")


def shown(value: Any) -> str:
    """Return a value as it is written on the command line."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {shown(below)}" for key, below in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    return str(value)


def typed(value: Any) -> str:
    """Return a value as `shown` does, but a text that would read as something else in its quotes, and called a text."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(typed, value))}]"
    return f"'{value}' (a text)" if isinstance(value, str) and OTHERWISE.fullmatch(value) else shown(value)


def _declared(owner: Any) -> dict[str, Any]:
    """Return the types that a class declares its fields with, by name."""
    if is_dataclass(owner):
        return {field.name: field.type for field in fields(owner)}
    return {name: field.annotation for name, field in getattr(owner, "model_fields", {}).items()}


def _owner_of(owner: Any, path: Sequence[str]) -> Any:
    """Return the class that declares the last field of a path."""
    for name in path[:-1]:
        owner = _declared(owner).get(name)
    return owner


def _takes_null(declared: Any) -> bool:
    """Whether a type, or the text of one, has None among its members."""
    return declared.endswith("| None") if isinstance(declared, str) else type(None) in get_args(declared)


def _path(place: Sequence[int | str]) -> list[str]:
    """Return the names of fields in a place. Pydantic also puts indices and the members of a union there."""
    path: list[str] = []
    for part in place:
        if isinstance(part, int) or part in KINDS or not part.isidentifier():
            break
        path.append(part)
    return path


def _allowed(finding: Mapping[str, Any]) -> str:
    """Return what the type or the bound that a finding is about allows."""
    kind = str(finding["type"])
    if kind in BOUNDS:
        return BOUNDS[kind].format(**finding.get("ctx", {}))
    name = next((name for name in KINDS if kind.startswith(name)), "")
    text = KINDS.get(name, str(finding["msg"]))
    inside = len(_path(finding["loc"])) < len(finding["loc"]) and isinstance(finding["loc"][-1], int)
    return f"a list, each item {text}" if inside else text
