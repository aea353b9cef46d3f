"""What a launcher is: it has the cells of a sweep computed, here or elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from runners.cell import Cell
    from runners.sweeping.outcome import Outcome
    from runners.sweeping.progress import SweepProgress
    from runners.tracking.tracker import Tracker


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
    def launch(
        self,
        cells: Sequence[Cell],
        tracker: Tracker,
        progress: SweepProgress,
        on_end: Callable[[Outcome], None],
    ) -> None:
        """Compute `cells`, which have no finished record, and return when no job is left.

        `on_end` is told of each cell as it ends. Cells that it never hears of are unfinished: a job died, or
        `runner.on_error=stop` ended the sweep.
        """
