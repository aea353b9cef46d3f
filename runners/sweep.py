"""The sweep: every cell once, finished ones skipped, failures recorded, the next cell always tried."""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from rich.console import Console

from mage.errors import UserError
from mage.timing.memory import PeakMemory
from runners.building import build
from runners.cell import Cell
from runners.ending import Ending, failure
from runners.environment import describe, git_state, now
from runners.limits import terminable, time_limit
from runners.lock import LockedError, locked
from runners.outcome import Outcome, exit_status, show
from runners.plan import SweepPlan, plan_sweep
from runners.progress import SweepProgress
from runners.record import CellRecord
from runners.store import Store
from runners.tracker import Guarded, Tracker
from runners.workbench import Workbench

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
        console.print(_repetition(plan))
    for task in dict.fromkeys(cell.labels.task for cell in plan.added):
        console.print(f"No dense reference is named for {task}: it is computed too (dense_reference=true).")


def _repetition(plan: SweepPlan) -> str:
    """Say that cells were named again: no slip where a method without a budget stands in a sweep over budgets."""
    if any(cell.budget is not None for cell in plan.repeated):
        return f"{len(plan.repeated)} of the configs name a cell again: each cell is computed once."
    methods = {cell.labels.method for cell in plan.repeated}
    once = sum(cell.labels.method in methods for cell in plan.cells)
    cells = f"{once} {'cell is' if once == 1 else 'cells are'}"
    return f"{', '.join(sorted(methods))}: no budget is used, {cells} computed for {once + len(plan.repeated)} configs."


class Sweep:
    """Works through the cells of a plan in one process. Other processes may work on the same cells."""

    def __init__(self, cells: Sequence[Cell], tracker: Tracker, console: Console) -> None:
        self._cells, self._tracker, self._console = cells, Guarded(tracker), console
        self._bench = Workbench()
        self._outcomes: dict[Path, Outcome] = {}

    def run(self) -> list[Outcome]:
        """Return the outcome of every cell, in order; fewer when `runner.on_error=stop` ended the sweep."""
        stores = {cell.folder: Store(cell.folder, cell.runner.row_type) for cell in self._cells}
        waiting: deque[Cell] = deque()
        for cell in self._cells:
            record = stores[cell.folder].finished(cell.identity)
            if record is None:
                waiting.append(cell)
            else:
                self._outcomes[cell.folder] = Outcome(cell, record, computed=False)
        with SweepProgress(self._console, self._cells, waiting) as progress:
            self._say_whose_code(progress)
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

    def _say_whose_code(self, progress: SweepProgress) -> None:
        """The code is no part of an identity: tell of finished cells that another commit computed."""
        here, _ = git_state()
        commits = Counter(outcome.record.environment.git_commit for outcome in self._outcomes.values())
        for commit, count in commits.items():
            if here and commit and commit != here:
                progress.say(f"{count} of them were computed by commit {commit[:8]}, this is {here[:8]}.")

    def _attempt(self, cell: Cell, store: Store, progress: SweepProgress) -> Outcome:
        """Compute a cell, unless another process has done so or is at it: then raise `LockedError`.

        Nothing is loaded before the lock is held: to look whether another process is done must cost nothing.
        """
        with ExitStack() as held:
            try:
                held.enter_context(locked(cell.folder))
            except OSError as error:  # the folder cannot be written
                record = _record(cell, Ending("error", str(error)), None, now())
                progress.end(cell, record)
                return Outcome(cell, record, computed=True)
            found = store.finished(cell.identity)
            if found is not None:
                progress.finished(cell, "computed by another run")
                return Outcome(cell, found, computed=False)
            record = self._compute(cell, store, progress)
            progress.end(cell, record)
            return Outcome(cell, record, computed=True)

    def _compute(self, cell: Cell, store: Store, progress: SweepProgress) -> CellRecord:
        """Compute what is missing of a cell, write its record and return it; one that cannot be written says so."""
        started = now()
        progress.begin(cell)
        tracked = self._tracker.start(cell, progress.say)
        finished: CellRecord | None = None
        try:
            ending = self._work(cell, store, progress)
            try:
                record = _record(cell, ending, store, started)
                store.finish(record)
            except OSError as error:
                record = _record(cell, Ending("error", str(error)), None, started)
            finished = record
            return record
        finally:
            tracked.finish(finished)

    def _work(self, cell: Cell, store: Store, progress: SweepProgress) -> Ending:
        """Load, compute and count; whatever goes wrong is how this cell ends, and no other."""
        try:
            memory = PeakMemory(self._bench.model(cell).device)
            with time_limit(cell.runner.timeout_s):
                rows = self._examples(cell, store, progress)
            return Ending("done", metrics={"peak_memory_bytes": memory.read(), **cell.runner.summarise(rows)})
        except Exception as problem:
            self._bench.drop_prefixes()
            return failure(problem)

    def _examples(self, cell: Cell, store: Store, progress: SweepProgress) -> list[BaseModel]:
        questions, size = cell.runner.questions(cell, self._bench), cell.runner.group_size
        rows = store.resume([row_id for row_id, _ in questions], size)
        progress.expect(len(questions))
        progress.advance(len(rows), computed=False)
        for start in range(len(rows), len(questions), size):
            group = [question for _, question in questions[start : start + size]]
            computed = cell.runner.compute(cell, self._bench, group)
            store.append(computed)
            rows += computed
            progress.advance(len(computed))
        return rows


def _record(cell: Cell, ending: Ending, store: Store | None, started: str) -> CellRecord:
    return CellRecord(
        identity=cell.identity,
        name=cell.name,
        experiment=cell.settings.name,
        status=ending.status,
        error=ending.error,
        labels=cell.labels,
        config=cell.config,
        environment=describe(
            torch.device(cell.settings.model.device), started, cell.attention, capture=cell.settings.capture
        ),
        metrics=ending.metrics,
        examples=store.examples_file() if store else None,
    )
