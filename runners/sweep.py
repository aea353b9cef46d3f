"""The sweep: every cell once, finished ones skipped, failures recorded, the next cell always tried."""

from __future__ import annotations

import sys
import time
import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from rich.console import Console

from mage.errors import UserError
from runners.building import build
from runners.cell import Cell
from runners.environment import describe, now
from runners.limits import CellTimeoutError, terminable, time_limit
from runners.lock import Lock, LockedError, locked
from runners.outcome import Outcome, exit_status, show
from runners.plan import SweepPlan, plan_sweep
from runners.progress import SweepProgress
from runners.record import CellRecord, Status
from runners.store import Store
from runners.tracker import Tracker
from runners.workbench import PeakMemory, Workbench

POLL_S = 0.2  # how often to look whether another process has finished a cell
FILE_WIDTH = 120  # columns of output that goes to a file


def run_sweep(configs: Sequence[Mapping[str, Any]]) -> int:
    """Compute the cells of resolved configs and print what came out. Returns 0, or 1 when a cell failed.

    Every config is validated before anything is written or loaded. Raises `UserError`.
    """
    plan = plan_sweep(configs)
    tracker = build("tracker", configs[0]["tracker"])
    if not isinstance(tracker, Tracker):
        raise UserError(f"tracker._target_={configs[0]['tracker']['_target_']}: not a Tracker.")
    console = Console() if sys.stdout.isatty() else Console(width=FILE_WIDTH)
    _announce(plan, console)
    with terminable():
        outcomes = Sweep(plan.cells, tracker, console).run()
    show(console, outcomes)
    return exit_status(outcomes)


def _announce(plan: SweepPlan, console: Console) -> None:
    if plan.repeated:
        console.print(f"{plan.repeated} of the configs name a cell again: each cell is computed once.")
    for cell in plan.added:
        console.print(f"No dense reference is named for {cell.labels.task}: it is computed too (dense_reference=true).")


class Sweep:
    """Works through the cells of a plan in one process. Other processes may work on the same cells."""

    def __init__(self, cells: Sequence[Cell], tracker: Tracker, console: Console) -> None:
        self._cells, self._tracker, self._console = cells, tracker, console
        self._bench = Workbench()
        self._outcomes: dict[Path, Outcome] = {}

    def run(self) -> list[Outcome]:
        """Return the outcome of every cell, in order; fewer when `runner.on_error=stop` ended the sweep.

        Raises `UserError` when a checkpoint turns out damaged; nothing is written for a cell that needs it.
        """
        stores = {cell.folder: Store(cell.folder, cell.runner.row_type) for cell in self._cells}
        waiting: deque[Cell] = deque()
        for cell in self._cells:
            record = stores[cell.folder].finished(cell.identity)
            if record is None:
                waiting.append(cell)
            else:
                self._outcomes[cell.folder] = Outcome(cell, record, computed=False)
        pending = sum(cell.settings.examples for cell in waiting)
        with SweepProgress(self._console, len(self._cells), len(waiting), pending) as progress:
            blocked = 0
            while waiting:
                cell = waiting.popleft()
                try:
                    outcome = self._attempt(cell, stores[cell.folder], progress)
                except LockedError as lock:
                    waiting.append(cell)
                    blocked += 1
                    if blocked == len(waiting):
                        progress.say(f"waiting for {len(waiting)} cells of another run: {lock}")
                    if blocked >= len(waiting):
                        time.sleep(POLL_S)
                    continue
                blocked = 0
                self._outcomes[cell.folder] = outcome
                if outcome.record.status != "done" and cell.runner.on_error == "stop":
                    progress.say("runner.on_error=stop: the sweep ends here")
                    break
        return [self._outcomes[cell.folder] for cell in self._cells if cell.folder in self._outcomes]

    def _attempt(self, cell: Cell, store: Store, progress: SweepProgress) -> Outcome:
        """Compute a cell, unless another process has done so or is at it: then raise `LockedError`."""
        device = self._bench.model(cell).device
        try:
            with locked(cell.folder) as lock:
                record = store.finished(cell.identity)
                if record is None:
                    record = self._compute(cell, store, lock, progress, device)
                    progress.end(cell, record)
                    return Outcome(cell, record, computed=True)
                progress.finished(cell, "computed by another run")
                return Outcome(cell, record, computed=False)
        except OSError as error:  # the folder or the record cannot be written
            record = _record(cell, "error", str(error), {}, None, device, now())
            progress.end(cell, record)
            return Outcome(cell, record, computed=True)

    def _compute(
        self, cell: Cell, store: Store, lock: Lock, progress: SweepProgress, device: torch.device
    ) -> CellRecord:
        """Compute what is missing of a cell and write its record. Raises OSError when that cannot be written."""
        started, memory = now(), PeakMemory(device)
        tracked = self._tracker.start(cell, progress.say)
        finished: CellRecord | None = None
        metrics: dict[str, float] = {}
        status: Status = "done"
        error: str | None = None
        try:
            try:
                with time_limit(cell.runner.timeout_s):
                    rows = self._examples(cell, store, lock, progress)
                metrics = {**cell.runner.summarise(rows), "peak_memory_bytes": memory.read()}
            except Exception as problem:
                status, error = _classify(problem)
                self._bench.drop_prefixes()
            record = _record(cell, status, error, metrics, store, device, started)
            store.finish(record)
            finished = record
            return record
        finally:
            tracked.finish(finished)

    def _examples(self, cell: Cell, store: Store, lock: Lock, progress: SweepProgress) -> list[BaseModel]:
        questions, size = self._bench.questions(cell), cell.runner.group_size
        rows = store.resume([question.example.id for question in questions], size)
        progress.begin(cell, resumed=len(rows))
        for start in range(len(rows), len(questions), size):
            computed = cell.runner.compute(cell, self._bench, questions[start : start + size])
            store.append(computed)
            lock.touch()
            rows += computed
            progress.advance(len(computed))
        return rows


def _record(
    cell: Cell,
    status: Status,
    error: str | None,
    metrics: dict[str, float],
    store: Store | None,
    device: torch.device,
    started: str,
) -> CellRecord:
    return CellRecord(
        identity=cell.identity,
        name=cell.name,
        experiment=cell.settings.name,
        status=status,
        error=error,
        labels=cell.labels,
        config=cell.config,
        environment=describe(device, started),
        metrics=metrics,
        examples=store.examples_file() if store else None,
    )


def _classify(problem: Exception) -> tuple[Status, str]:
    """Tell the status and the message of what stopped a cell."""
    if isinstance(problem, UserError):
        return "invalid_config", str(problem)
    if isinstance(problem, CellTimeoutError):
        return "timeout", str(problem)
    # torch reports a failed allocation on the CPU as a plain RuntimeError.
    on_cpu = isinstance(problem, RuntimeError) and "can't allocate memory" in str(problem)
    if isinstance(problem, MemoryError | torch.OutOfMemoryError) or on_cpu:
        return "out_of_memory", f"{type(problem).__name__}: {problem}"
    return "error", "".join(traceback.format_exception(problem))
