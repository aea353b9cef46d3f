"""The work on one cell: locked, computed example by example, closed with its record."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack

import torch
from pydantic import BaseModel

from mage.timing.memory import PeakMemory
from runners.cell import Cell
from runners.environment import describe, git_state, now
from runners.record import CellRecord
from runners.store.lock import locked, make_way
from runners.store.store import DamagedError, Store, read_record
from runners.sweeping.ending import Ending, failure
from runners.sweeping.limits import time_limit
from runners.sweeping.outcome import ELSEWHERE, Outcome
from runners.sweeping.stamp import Stamp, stamp_of
from runners.sweeping.workbench import Workbench


class Work:
    """One attempt at a cell. Whatever goes wrong is how this cell ends, and no other.

    `say` tells a person what became of damaged files. `asked`, `done`: examples. `seconds`: wall time spent on this
    cell, without the loading and the prefills that cells share.
    """

    def __init__(self, cell: Cell, bench: Workbench, say: Callable[[str], None], before: Stamp | None) -> None:
        """`before`: the record that stood when this process began."""
        self._before = before
        self.cell, self._bench, self._say = cell, bench, say
        self.store = Store(cell.folder, cell.runner.row_type, git_state()[0])
        self.asked, self.seconds = 0, 0.0
        self._rows: list[BaseModel] = []
        self._questions: list[object] = []
        self._peak_bytes = 0.0
        self._started = now()
        self._held, self._ours = ExitStack(), True
        self._ending: Ending | None = None
        self._found: CellRecord | None = None

    @property
    def done(self) -> int:
        """How many examples stand."""
        return len(self._rows)

    @property
    def ended(self) -> bool:
        """Whether nothing is left to compute: the cell is done, or has failed."""
        return self._found is not None or self._ending is not None

    def lock(self) -> None:
        """Hold the cell, unless another process does: then raise `LockedError`. It may have ended there meanwhile."""
        try:
            if aside := make_way(self.cell.folder):
                self._say(f"{self.cell.name}: it is no folder; it is kept as {aside.name}")
            self._held.enter_context(locked(self.cell.folder))
        except OSError as error:  # the folder cannot be written
            self._ending, self._ours = Ending("error", str(error)), False
            return
        self._found = self.store.finished(self.cell.identity) or self._failed_elsewhere()

    def _failed_elsewhere(self) -> CellRecord | None:
        """Return the record of an attempt that failed since this process began: one is enough for a sweep."""
        if stamp_of(self.cell.folder) in (None, self._before):
            return None
        try:
            record = read_record(self.cell.folder)
        except (OSError, DamagedError):
            return None
        return record if record.status != "done" and record.identity == self.cell.identity else None

    def release(self) -> None:
        """Let go of the cell."""
        self._held.close()

    def open(self) -> None:
        """Load what the cell needs and see what stands of it."""

        def look() -> None:
            runner = self.cell.runner
            self._bench.model(self.cell)
            questions = runner.questions(self.cell, self._bench)
            self.asked = len(questions)
            self._questions = [question for _, question in questions]
            self._rows = self.store.resume([row_id for row_id, _ in questions], runner.group_size, self._say)

        self._watch(look)
        self._finish_when_whole()

    def compute(self) -> None:
        """Compute the next examples, as many as the runner takes together."""
        size = self.cell.runner.group_size

        def answer() -> None:
            group = self._questions[self.done : self.done + size]
            memory = PeakMemory(self._bench.model(self.cell).device)
            rows = self.cell.runner.compute(self.cell, self._bench, group)
            self._peak_bytes = max(self._peak_bytes, memory.read(), self._bench.prefill_peak_bytes)
            self.store.append(rows)
            self._rows += rows

        self._watch(answer)
        self._finish_when_whole()

    def _finish_when_whole(self) -> None:
        if self._ending is None and self.done == self.asked:
            self._watch(self._finish)

    def _finish(self) -> None:
        memory = {"peak_memory_bytes": self._peak_bytes} if self._peak_bytes else {}
        metrics = {**memory, **self.cell.runner.summarise(self._rows)}
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise ValueError(f"the metric {name} is {value}")
        self._ending = Ending("done", metrics=metrics)

    def _watch(self, work: Callable[[], None]) -> None:
        """Do a part of the work and count its time; end the cell with what it raises, or when its time is over.

        The time may be over before the work begins.
        """
        began, before = time.monotonic(), self._bench.shared_seconds
        failed = None
        try:
            with time_limit(self.cell.runner.timeout_s, self.seconds):
                work()
        except Exception as problem:
            failed = failure(problem)
        if failed is not None:  # the exception is gone, and with it what its frames held
            self._bench.recover()
            self._ending = failed
        self.seconds += time.monotonic() - began - (self._bench.shared_seconds - before)

    def close(self) -> Outcome:
        """Write the record of a cell that has ended, let go of it and tell its outcome; a record that cannot be written
        says so."""
        if self._found is not None:
            self.release()
            return Outcome(self.cell, self._found, computed=False, note=ELSEWHERE)
        assert self._ending is not None  # the cell has ended
        try:
            record = self._record(self._ending, readable=self._ours)
            if self._ours:
                self.store.finish(record)
        except OSError as error:
            record = self._record(Ending("error", str(error)), readable=False)
        self.release()
        return Outcome(self.cell, record, computed=True)

    def _record(self, ending: Ending, *, readable: bool = True) -> CellRecord:
        cell = self.cell
        device = torch.device(cell.settings.model.device)
        return CellRecord(
            identity=cell.identity,
            name=cell.name,
            experiment=cell.settings.name,
            status=ending.status,
            error=ending.error,
            labels=cell.labels,
            config=cell.config,
            environment=describe(
                device,
                self._started,
                cell.attention,
                capture=cell.settings.capture,
                earlier_commits=self.store.earlier_commits,
            ),
            metrics=ending.metrics,
            examples=self.store.examples_file() if readable else None,
        )
