"""The sweep: plan it whole, skip what is finished, hand the rest to a launcher, and say what came out."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mage.errors import UserError
from runners.building import build
from runners.cell import Cell
from runners.environment import git_state
from runners.launchers.launcher import Launcher
from runners.settings import read_settings
from runners.store.store import Store
from runners.sweeping.audience import Audience
from runners.sweeping.console import SweepConsole
from runners.sweeping.limits import terminable
from runners.sweeping.outcome import Outcome, exit_status, show
from runners.sweeping.plan import SweepPlan, plan_sweep
from runners.sweeping.progress import SweepProgress
from runners.tracking.tracker import Guarded, SweepRun, Tracker
from runners.writing import check_writable

OF_A_SWEEP = ("output_dir", "tracker", "launcher", "plan")  # fields that all configs have in common


def run_sweep(configs: Sequence[Mapping[str, Any]]) -> int:
    """Compute the cells of resolved configs and print what came out. Returns 0, or 1 when a cell is not done.

    Every config is validated before anything is written or loaded. With `plan=true` nothing is. Raises `UserError`.
    """
    first, _ = read_settings(configs[0])
    for field in OF_A_SWEEP:
        if any(config.get(field) != configs[0].get(field) for config in configs):
            raise UserError(f"{field}: the configs of a sweep differ in it. Allowed: one {field} for all.")
    tracker, launcher = build("tracker", first.tracker, Tracker), build("launcher", first.launcher, Launcher)
    plan = plan_sweep(configs, here=not launcher.elsewhere)
    launcher.check(plan.cells)
    finished = _finished(plan.cells)
    if not first.plan:
        for name in dict.fromkeys(cell.settings.name for cell in plan.cells if cell.folder not in finished):
            check_writable(first.output_dir, name)
    console = SweepConsole()
    notes = _notes(plan)
    if first.plan:
        from runners.sweeping.estimate import show_plan

        for note in notes:
            console.print(note)
        show_plan(console, plan.cells, [outcome.cell for outcome in finished.values()])
        return 0
    with terminable():
        outcomes = Sweep(plan.cells, finished, launcher, Guarded(tracker), console).run(notes)
    if exit_status(outcomes) and not launcher.waits:
        return 0  # nothing has failed: others are at it
    show(console, outcomes, sys.argv)
    return exit_status(outcomes)


def _finished(cells: Sequence[Cell]) -> dict[Path, Outcome]:
    """Return the outcomes of the cells whose records stand."""
    found = {}
    for cell in cells:
        record = Store(cell.folder, cell.runner.row_type).finished(cell.identity)
        if record is not None:
            found[cell.folder] = Outcome(cell, record, computed=False)
    return found


def _notes(plan: SweepPlan) -> list[str]:
    """What a person should know of the cells that are planned."""
    tasks = dict.fromkeys(cell.labels.task for cell in plan.added)
    added = [f"No dense reference is named for {task}: it is computed too (dense_reference=true)." for task in tasks]
    return [*([_repetition(plan)] if plan.repeated else []), *added]


def _repetition(plan: SweepPlan) -> str:
    """Say that cells were named again: no slip where a method without a budget stands in a sweep over budgets."""
    if any(cell.budget is not None or cell.given["decoding"] != cell.config["decoding"] for cell in plan.repeated):
        same = "or differ in nothing that changes a result"
        return f"{len(plan.repeated)} of the configs name a cell again, {same}: each cell is computed once."
    methods = {cell.labels.method for cell in plan.repeated}
    once = sum(cell.labels.method in methods for cell in plan.cells)
    cells = f"{once} {'cell is' if once == 1 else 'cells are'}"
    return f"{', '.join(sorted(methods))}: no budget is used, {cells} computed for {once + len(plan.repeated)} configs."


class Sweep:
    """Sees the cells of a plan through, wherever they are computed. Other processes may work on the same cells."""

    def __init__(
        self,
        cells: Sequence[Cell],
        finished: Mapping[Path, Outcome],
        launcher: Launcher,
        tracker: Tracker,
        console: Console,
    ) -> None:
        self._cells, self._launcher, self._tracker, self._console = cells, launcher, tracker, console
        self._outcomes = dict(finished)
        self._followed = SweepRun()  # nobody follows it yet

    def run(self, notes: Sequence[str] = ()) -> list[Outcome]:
        """Return the outcome of every cell, in order. `notes` are printed once the launcher has not refused them.
        Raises `UserError` where it does."""
        waiting = [cell for cell in self._cells if cell.folder not in self._outcomes]
        with SweepProgress(self._console, self._cells, waiting) as progress:
            self._say_whose_code(progress.note)  # of the finished cells, whose number has just been noted
            for note in notes:
                progress.note(note)
            if waiting:
                audience = Audience(self._tracker, progress, self._note, lambda: self._show(progress.say))
                try:
                    self._launcher.launch(waiting, audience)
                finally:
                    self._followed.finish(self._all())
        return self._all()

    def _show(self, say: Callable[[str], None]) -> None:
        """Open the sweep's run at the tracker: not before the launcher has the cells, whose refusal leaves nothing."""
        self._followed = self._tracker.sweep(self._cells[0].settings.name, self._cells, say)
        self._followed.progress(self._counts())

    def _note(self, ended: Outcome) -> None:
        self._outcomes[ended.cell.folder] = ended
        self._followed.progress(self._counts())

    def _counts(self) -> dict[str, int]:
        done = [outcome for outcome in self._outcomes.values() if outcome.is_done]
        computed = sum(outcome.computed for outcome in done)
        failed = len(self._outcomes) - len(done)
        return {"done": computed, "skipped": len(done) - computed, "failed": failed, "cells": len(self._cells)}

    def _all(self) -> list[Outcome]:
        """Return all outcomes; what no launcher told of has not ended."""
        left = "the sweep ended before it"
        return [
            self._outcomes.get(cell.folder) or Outcome(cell, None, computed=False, note=left) for cell in self._cells
        ]

    def _say_whose_code(self, say: Callable[[str], None]) -> None:
        """The code is no part of an identity: tell of finished cells that another commit computed."""
        here, _ = git_state()
        records = [outcome.record for outcome in self._outcomes.values() if outcome.record is not None]
        for commit, count in Counter(record.environment.git_commit for record in records).items():
            if here and commit and commit != here:
                say(f"{count} of them were computed by commit {commit[:8]}, this is {here[:8]}.")
