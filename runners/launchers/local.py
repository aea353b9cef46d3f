"""launcher=local: all cells in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runners.launchers.launcher import Launcher

if TYPE_CHECKING:
    from runners.cell import Cell
    from runners.sweeping.outcome import Outcome
    from runners.sweeping.progress import SweepProgress
    from runners.tracking.tracker import Tracker


@dataclass(frozen=True)
class Local(Launcher):
    """This process, cells that share a prefill together, group after group."""

    def launch(
        self,
        cells: Sequence[Cell],
        tracker: Tracker,
        progress: SweepProgress,
        on_end: Callable[[Outcome], None],
    ) -> None:
        from runners.sweeping.worker import Worker  # brings torch, which a refused config need not wait for

        Worker(cells, tracker, progress, on_end).run()
