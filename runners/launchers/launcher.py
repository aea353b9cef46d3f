"""What a launcher is: it has the cells of a sweep computed, here or elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from runners.cell import Cell
    from runners.sweeping.audience import Audience


class Launcher(ABC):
    """Where the cells of a sweep are computed. `elsewhere`: on machines that may have what this one lacks."""

    elsewhere: ClassVar[bool] = False

    @property
    def waits(self) -> bool:
        """Whether `launch` returns when the cells have ended; else when others have been told to compute them."""
        return True

    def check(self, cells: Sequence[Cell]) -> None:  # noqa: B027 - most can launch any cells
        """Raise `UserError` where `cells` cannot be launched from here, before anything is written or loaded."""

    @abstractmethod
    def launch(self, cells: Sequence[Cell], audience: Audience) -> None:
        """Compute `cells`, which have no finished record, and return when no job is left.

        `audience` hears of the start, and of each cell as it ends. Those of which it never does are unfinished: a job
        died, or `runner.on_error=stop` ended the sweep. Raises `UserError`, before the start and before anything is
        said, where none can be computed; then nothing that it wrote stays.
        """
