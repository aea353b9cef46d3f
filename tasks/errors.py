"""The error that a wrong task setting causes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TaskError(ValueError):
    """A task setting that cannot work: one line with the field, its value and what is allowed."""


def refused(field: str, value: object, allowed: str) -> TaskError:
    """The error for a field of a task: `task.depths=1.5: allowed are numbers from 0 to 1`."""
    return TaskError(f"task.{field}={value!r}: {allowed}")


def unknown_name(field: str, value: object, names: Iterable[str]) -> TaskError:
    """The error for a name that is not one of `names`, with the nearest one."""
    known = sorted(names)
    near = difflib.get_close_matches(str(value), known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return refused(field, value, f"allowed are {', '.join(known)}{hint}")
