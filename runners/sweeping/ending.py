"""How a cell ended: its status, and the metrics or the reason."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mage.errors import UserError
from mage.shortage import is_out_of_memory
from runners.sweeping.limits import CellTimeoutError

if TYPE_CHECKING:
    from runners.record import Status


@dataclass(frozen=True)
class Ending:
    """`error` is None for a cell that is done; `metrics` are empty for one that is not."""

    status: Status
    error: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)


def failure(problem: Exception) -> Ending:
    """Tell the status and the message of what stopped a cell."""
    if isinstance(problem, UserError):
        return Ending("invalid_config", str(problem))
    if isinstance(problem, CellTimeoutError):
        return Ending("timeout", str(problem))
    if is_out_of_memory(problem):
        return Ending("out_of_memory", f"{type(problem).__name__}: {problem}")
    told = "".join(traceback.format_exception(problem))
    # A record is UTF-8, the name of a file need not be.
    return Ending("error", told.encode("utf-8", "backslashreplace").decode())
