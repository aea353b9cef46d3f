"""tracker=wandb: one run of Weights & Biases a cell, one a sweep with a table of its cells, one a training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mage.errors import UserError
from runners.runner import LONGEST_S
from runners.tracking.tracker import Curves, SweepRun, Tracker, first_line
from runners.tracking.tracker_file import is_shown, new_id
from runners.tracking.wandb_link import WandbLink, outage
from runners.tracking.wandb_runs import EXIT_CODES, Mode, WandbRuns
from runners.tracking.wandb_table import summary_of, table_of

if TYPE_CHECKING:
    from runners.cell import Cell
    from runners.record import CellRecord
    from runners.sweeping.outcome import Outcome

EVERY_S = 1.0  # how often the counts of a sweep are sent


class WandbCurves(Curves):
    """A run of W&B with a point for each logged step."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, step: int, points: Mapping[str, float]) -> None:
        self._run.log(dict(points), step=step)

    def finish(self, status: str) -> None:
        self._run.summary.update({"status": status})
        self._run.finish(exit_code=EXIT_CODES.get(status, 1))


@dataclass
class WandbTracker(Tracker):
    """Offline by default: no account, no prompt, no network; `wandb sync` uploads later.

    `mode=online` falls back to offline, and says so once, when there are no credentials or the server takes longer than
    `timeout_s`. Runs are grouped by experiment; `dir` is where W&B keeps its files. A cell that failed and is tried
    again continues its run, whose id stands in tracker.json in its folder. The run of a cell holds its record as an
    artifact. Cells and sweeps are reported by a process of their own, so that nothing of W&B costs a cell time.
    """

    mode: Mode = "offline"
    project: str = "mage"
    entity: str | None = None
    dir: str = "outputs"
    timeout_s: float = 15.0

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s <= LONGEST_S:
            allowed = f"Allowed: seconds above 0, up to {LONGEST_S:g}."
            raise UserError(f"tracker.timeout_s={self.timeout_s:g} is out of range. {allowed}")
        self._link: WandbLink | None = None
        self._sweeping = False
        self._reported: set[Path] = set()

    def report(self, cell: Cell, record: CellRecord, say: Callable[[str], None]) -> None:
        self._reported.add(cell.folder)
        self._give(say, "cell", folder=str(cell.folder.resolve()), record=record.model_dump(mode="json"))

    def flush(self) -> None:
        if self._link is None:
            return
        if self._sweeping:
            self._link.wait()
            return
        link, self._link = self._link, None
        try:
            link.end()
        finally:
            self.mode = link.mode  # a server that could not be had is not asked again

    def sweep(self, name: str, cells: Sequence[Cell], say: Callable[[str], None]) -> SweepRun:
        self._give(say, "begin", run=new_id(), name=name, cells=len(cells))
        self._sweeping = True
        return WandbSweep(self, say)

    def follow(self, config: Mapping[str, Any], name: str, say: Callable[[str], None]) -> Curves:
        described = {"group": config["name"], "name": name, "job_type": str(config["runner"].get("name"))}
        runs = WandbRuns(**self._how())
        try:
            return WandbCurves(runs.open(**described, config=dict(config)))
        except Exception as error:  # whatever a server or its client may say
            if self.mode == "offline":
                raise
            say(outage(first_line(error), self.dir))
            return WandbCurves(replace(runs, mode="offline").open(**described, config=dict(config)))

    def show_counts(self, counts: Mapping[str, int], say: Callable[[str], None]) -> None:
        """Show how far the open sweep is."""
        self._give(say, "progress", counts=dict(counts))

    def end_sweep(self, outcomes: Sequence[Outcome], say: Callable[[str], None]) -> None:
        """Report the cells that nobody has shown, for instance because their process was killed, and end the sweep."""
        for outcome in outcomes:
            cell, record = outcome.cell, outcome.record
            if record is None or cell.folder in self._reported:
                continue
            if not is_shown(cell.folder, record.model_dump(mode="json")):
                self.report(cell, record, say)
        columns, rows = table_of(outcomes)
        self._give(say, "finish", columns=columns, rows=rows, summary=summary_of(outcomes))
        self._sweeping = False
        self.flush()

    def _give(self, say: Callable[[str], None], kind: str, **job: Any) -> None:
        if self._link is None:
            self._link = WandbLink(self._how(), say)
        self._link.say = say
        self._link.give(kind, **job)

    def _how(self) -> dict[str, Any]:
        fields = ("mode", "project", "entity", "dir", "timeout_s")
        return {name: getattr(self, name) for name in fields}


class WandbSweep(SweepRun):
    """The run of a sweep: counts while it goes on, a table of all cells at its end."""

    def __init__(self, tracker: WandbTracker, say: Callable[[str], None]) -> None:
        self._tracker, self._say = tracker, say
        self._counts: Mapping[str, int] = {}
        self._sent_at = -EVERY_S

    def progress(self, counts: Mapping[str, int]) -> None:
        self._counts = counts
        if time.monotonic() - self._sent_at >= EVERY_S:
            self._sent_at = time.monotonic()
            self._tracker.show_counts(counts, self._say)

    def finish(self, outcomes: Sequence[Outcome]) -> None:
        if self._counts:
            self._tracker.show_counts(self._counts, self._say)
        self._tracker.end_sweep(outcomes, self._say)
