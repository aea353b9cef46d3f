"""Cells with records, as a sweep that has computed them hands them to a tracker."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from runners.record import CellRecord
from runners.sweeping.outcome import Outcome
from runners.tracking.tracker import Guarded, Tracker
from tests.analysis.synthetic import write_answers


def finished_cells(experiment: Path, count: int) -> list[Outcome]:
    """Write the records of cells of made-up answers."""
    outcomes = []
    for number in range(count):
        folder = write_answers(experiment, "mage", 16 + number, lambda index: index > 0, count=4)
        record = CellRecord.model_validate_json((folder / "record.json").read_bytes())
        cell: Any = SimpleNamespace(folder=folder, name=record.name, labels=record.labels)
        outcomes.append(Outcome(cell, record, computed=True))
    return outcomes


def failed(outcome: Outcome) -> Outcome:
    """The same cell, had it failed."""
    assert outcome.record is not None
    changes = {"status": "error", "error": "a slip", "metrics": {}}
    return Outcome(outcome.cell, outcome.record.model_copy(update=changes), computed=True)


def show(
    tracker: Tracker,
    outcomes: Sequence[Outcome],
    say: Callable[[str], None],
    after: Callable[[int], None] = lambda n: None,
) -> None:
    """Tell a tracker of a sweep. `after` is called with the number of each cell that was reported."""
    guarded = Guarded(tracker)
    sweep = guarded.sweep("exp", [outcome.cell for outcome in outcomes], say)
    for number, outcome in enumerate(outcomes):
        guarded.report(outcome.cell, cast(CellRecord, outcome.record), say)
        after(number)
    sweep.progress({"done": len(outcomes)})
    sweep.finish(outcomes)


def wait_for(met: Callable[[], object]) -> None:
    """Wait until something is so; a test that waits in vain fails."""
    end = time.monotonic() + 60
    while not met():
        assert time.monotonic() < end
        time.sleep(0.02)
