"""Who hears of the cells of a sweep in the process that computes them, or follows those that do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runners.sweeping.outcome import Outcome
    from runners.sweeping.progress import SweepProgress
    from runners.tracking.tracker import Tracker


@dataclass(frozen=True)
class Audience:
    """`tracker`: is shown the cells that are computed in this process. `progress`: tells a person how far they are.
    `on_end`: is told how each cell ended; of none that the end of the sweep left unfinished. `on_start`: is called by a
    launcher once, when nothing refuses the cells any more and none has begun."""

    tracker: Tracker
    progress: SweepProgress
    on_end: Callable[[Outcome], None]
    on_start: Callable[[], None] = lambda: None
