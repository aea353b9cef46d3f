"""The error a user can cause: one clear line, no traceback."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A request that cannot be served as written.

    The message is one line that names the field, its value and what is allowed. `run.py` prints it and exits with 2.
    """


def unknown_choice(field: str, value: object, allowed: Iterable[object]) -> UserError:
    """Return the error for a value outside a closed list, with the nearest allowed name when there is one."""
    names = [str(name) for name in allowed]
    nearest = get_close_matches(str(value), names, n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else "."
    return UserError(f"{field}={value} is not known{hint} Allowed: {', '.join(names)}.")
