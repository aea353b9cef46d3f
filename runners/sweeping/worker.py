"""The worker: computes cells in this process, example by example, so that those of a group share each prefill."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from runners.cell import Cell
from runners.store.lock import LockedError
from runners.sweeping.grouping import groups_of
from runners.sweeping.outcome import Outcome
from runners.sweeping.progress import SweepProgress
from runners.sweeping.work import Work
from runners.sweeping.workbench import Workbench
from runners.tracking.tracker import Guarded, Tracker

POLL_S = 0.2  # how often to look whether another process has finished a cell


class StoppedError(Exception):
    """A cell failed under `runner.on_error=stop`."""


class Worker:
    """Works through cells in groups. Other processes may work on the same cells: each is computed once.

    `on_end` is told how each cell ended, also of one that another process has finished meanwhile; of none that the end
    of the sweep left unfinished.
    """

    def __init__(
        self, cells: Sequence[Cell], tracker: Tracker, progress: SweepProgress, on_end: Callable[[Outcome], None]
    ) -> None:
        self._cells, self._progress, self._on_end = cells, progress, on_end
        self._tracker = Guarded(tracker)
        self._bench = Workbench()

    def run(self) -> None:
        """Compute what is missing, until each cell has ended, here or elsewhere."""
        waiting = deque(groups_of(self._cells))
        blocked = 0
        try:
            while waiting:
                group = waiting.popleft()
                held, lock = self._group(group)
                blocked = blocked + 1 if len(held) == len(group) else 0
                if not held:
                    continue
                waiting.append(held)
                if blocked == len(waiting):
                    count = sum(map(len, waiting))
                    self._progress.say(f"waiting for {count} cells of another run: {lock}")
                if blocked >= len(waiting):
                    time.sleep(POLL_S)
        except StoppedError:
            self._progress.say("runner.on_error=stop: the sweep ends here")
        self._tracker.flush()

    def _group(self, group: Sequence[Cell]) -> tuple[list[Cell], LockedError | None]:
        """Compute the cells of a group that no other process holds. Returns those that one holds, and who.

        Nothing is loaded before a lock is held: to look whether another process is done must cost nothing.
        """
        at_work: list[Work] = []
        held: list[Cell] = []
        lock = None
        try:
            for cell in group:
                work = Work(cell, self._bench, self._progress.say)
                try:
                    work.lock()
                except LockedError as error:
                    held.append(cell)
                    lock = error
                    continue
                at_work.append(work)
                self._settle(work)
            at_work = [work for work in at_work if not work.ended]
            if at_work:
                self._together(at_work)
        finally:
            for work in at_work:
                work.release()
        return held, lock

    def _together(self, at_work: Sequence[Work]) -> None:
        """Compute what is missing, an example of all cells before the next."""
        self._bench.begin([work.cell for work in at_work])
        self._progress.begin([work.cell for work in at_work])
        for work in at_work:
            work.open()
            self._progress.expect(work.cell, work.asked, work.done)
            self._settle(work)
        size = at_work[0].cell.runner.group_size
        for start in range(0, max(work.asked for work in at_work), size):
            for work in at_work:
                if not work.ended and work.done == start:
                    work.compute()
                    self._progress.advance(work.done - start)
                    self._settle(work)

    def _settle(self, work: Work) -> None:
        """Close a cell that has ended: its record is there, the others of the group go on."""
        if not work.ended:
            return
        outcome = work.close()
        assert outcome.record is not None  # it has ended
        if outcome.computed:
            self._tracker.report(work.cell, outcome.record, self._progress.say)
            self._progress.end(work.cell, outcome.record, work.seconds)
        else:
            self._progress.finished(work.cell, "computed by another run")
        self._on_end(outcome)
        if not outcome.is_done and work.cell.runner.on_error == "stop":
            raise StoppedError
