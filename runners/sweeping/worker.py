"""The worker: computes cells in this process, example by example, so that those of a group share each prefill."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from runners.cell import Cell
from runners.store.lock import LockedError, locked
from runners.sweeping.audience import Audience
from runners.sweeping.grouping import groups_of
from runners.sweeping.progress import TOLD_EVERY_S
from runners.sweeping.stamp import stamp_of
from runners.sweeping.work import Work
from runners.sweeping.workbench import Workbench

HINT = "launcher=processes shares a sweep out"
POLL_S = 0.2  # how often to look whether another process has finished a cell


class StoppedError(Exception):
    """A cell failed under `runner.on_error=stop`."""


class Worker:
    """Works through cells in groups. Other processes may work on the same cells: each is computed once.

    `audience` is told how each cell ended, also of one that another process has finished meanwhile.
    """

    def __init__(self, cells: Sequence[Cell], audience: Audience) -> None:
        self._cells = cells
        self._tracker, self._progress, self._on_end = audience.tracker, audience.progress, audience.on_end
        self._bench = Workbench()
        self._before = {cell.folder: stamp_of(cell.folder) for cell in cells}

    def run(self) -> None:
        """Compute what is missing, until each cell has ended, here or elsewhere."""
        waiting = deque((group, 0) for group in groups_of(self._cells))
        blocked = 0
        told: float | None = None
        try:
            while waiting:
                group, looks = waiting.popleft()
                held, lock = self._group(group, looks)
                blocked = blocked + 1 if len(held) == len(group) else 0
                if not held:
                    continue
                waiting.append((held, looks + 1 if blocked else 0))
                if blocked < len(waiting):
                    continue
                if told is None or time.monotonic() - told > TOLD_EVERY_S:
                    told = time.monotonic()
                    count = sum(len(group) for group, _ in waiting)
                    cells = f"{count} {'cell' if count == 1 else 'cells'}"
                    self._progress.say(f"waiting for {cells} of another run: {lock}; {HINT}")
                time.sleep(POLL_S)
        except StoppedError:
            self._progress.say("runner.on_error=stop: the sweep ends here")
        self._tracker.flush()

    def _group(self, group: Sequence[Cell], looks: int) -> tuple[list[Cell], LockedError | None]:
        """Compute the cells of a group that no other process holds. Returns those that one holds, and who.

        Nothing is loaded before a lock is held: to look whether another process is done must cost nothing. looks: how
        often all were held; then one cell, another each time, tells whether that has changed.
        """
        if looks:
            try:
                with locked(group[looks % len(group)].folder):
                    pass
            except LockedError as error:
                return list(group), error
            except OSError:
                pass  # the attempt at the cell tells it
        at_work: list[Work] = []
        held: list[Cell] = []
        lock = None
        try:
            for cell in group:
                work = Work(cell, self._bench, self._progress.say, self._before[cell.folder])
                try:
                    work.lock()
                except LockedError as error:
                    held.append(cell)
                    lock = error
                    continue
                at_work.append(work)
                self._settle(work, cell.settings.examples or 0)
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
            self._settle(work, work.asked - work.done)
        size = at_work[0].cell.runner.group_size
        for start in range(0, max(work.asked for work in at_work), size):
            for work in at_work:
                if not work.ended and work.done == start:
                    work.compute()
                    self._progress.advance(work.done - start)
                    self._settle(work, work.asked - work.done)

    def _settle(self, work: Work, left: int) -> None:
        """Close a cell that has ended, with so many examples left: its record is written, the others go on."""
        if not work.ended:
            return
        outcome = work.close()
        assert outcome.record is not None  # it has ended
        self._progress.drop(left)
        if outcome.computed:
            self._tracker.report(work.cell, outcome.record, self._progress.say)
            self._progress.end(work.cell, outcome.record, work.seconds)
        else:
            told = "computed" if outcome.is_done else f"failed, {outcome.kind},"
            self._progress.finished(work.cell, f"{told} by another run")
        self._on_end(outcome)
        if not outcome.is_done and work.cell.runner.on_error == "stop":
            raise StoppedError
