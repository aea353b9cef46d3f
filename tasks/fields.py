"""Checks of the fields of a task: each refuses with one line that names field, value and what is allowed."""

from __future__ import annotations

from typing import Any, TypeGuard

from tasks.errors import refused


def require_share(field: str, value: object) -> None:
    """Refuse what is not a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise refused(field, value, "allowed are numbers from 0 to 1")


def require_int(field: str, value: object, low: int, high: int, why: str = "") -> None:
    """Refuse what is not a whole number from `low` to `high`; `why` explains the bounds."""
    if not is_int(value) or not low <= value <= high:
        raise refused(field, value, f"allowed are whole numbers from {low} to {high}{why and f' ({why})'}")


def require_sizes(name: str, values: Any, low: int, high: int, why: str = "") -> tuple[int, ...]:
    """One whole number or several from `low` to `high`, as a tuple."""
    sizes = as_tuple(values)
    for size in sizes:
        require_int(name, size, low, high, why)
    if not sizes:
        raise refused(name, [], "at least one is needed")
    return sizes


def is_int(value: object) -> TypeGuard[int]:
    """Whether `value` is a whole number: true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def as_tuple(value: Any) -> tuple[Any, ...]:
    """One value or several (a list, a tuple, a list of a config) as a tuple. Its items are not yet checked."""
    return (value,) if isinstance(value, int | float | str) else tuple(value)
