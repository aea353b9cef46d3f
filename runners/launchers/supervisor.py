"""Sees jobs through: tells of cells as they end, starts a job that died again, and gives up what kills it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mage.errors import UserError
from runners.cell import Cell
from runners.launchers.cell_watch import CellWatch
from runners.launchers.jobs import Crew, End, Job
from runners.sweeping.audience import Audience
from runners.sweeping.grouping import groups_of
from runners.sweeping.job import write_part

TRIES = 2  # deaths at one place until the cell in flight there is given up
SPOILT = 2  # cells given up in a row until the whole part is
LAST_LINES = 5  # of a log
QUIET_S = 30.0  # without any news until the jobs' last lines are shown
TAIL_BYTES = 4096


@dataclass
class Shift:
    """A part and the job that is at it. `deaths`, `spoilt`: since the last news of its cells, when `reached` stood.
    `said`: the line of its log that was shown last."""

    path: Path
    cells: list[Cell]
    job: Job
    reached: int = 0
    deaths: int = 0
    spoilt: int = 0
    said: str = ""


class Supervisor:
    """Follows the jobs of a sweep until the last has ended."""

    def __init__(self, crew: Crew, folder: Path, parts: Sequence[list[Cell]], audience: Audience) -> None:
        self._crew, self._folder, self._parts = crew, folder, parts
        self._progress, self._on_end, self._on_start = audience.progress, audience.on_end, audience.on_start
        self._watch = CellWatch([cell for part in parts for cell in part])
        self._shifts: list[Shift] = []
        self._told = ""
        self._stopped = False
        self._quiet_since = time.monotonic()

    def start(self) -> None:
        """Write the parts and start a job for each. Raises `UserError` where none can be, before anything is said: then
        the parts are gone again."""
        paths = [self._folder / f"{number}.json" for number in range(1, len(self._parts) + 1)]
        try:
            with _gone_when_refused(self._folder):
                for path, part in zip(paths, self._parts):
                    write_part(path, part)
                jobs = self._crew.start(paths)
            self._on_start()
            cells = [cell for part in self._parts for cell in part]
            self._progress.begin(cells, f"{_count(len(cells), 'cell')} in {_count(len(self._parts), 'job')}")
            for cell in cells:
                self._progress.expect(cell, cell.settings.examples or 0, self._watch.rows(cell))
        except BaseException:
            self._crew.stop()
            raise
        self._shifts = [Shift(*made, self._reached(made[1])) for made in zip(paths, self._parts, jobs)]
        titles = jobs[0].title if len(jobs) == 1 else f"{jobs[0].title} to {jobs[-1].title}"
        self._progress.say(f"{titles}; logs: {jobs[0].log.parent}")

    def follow(self) -> None:
        """Tell of cells as they end, and return when no job is left. Whatever ends this ends the jobs, too."""
        try:
            while self._shifts and not self._stopped:
                time.sleep(self._crew.poll_s)
                state = self._crew.look()
                ends = [(shift, shift.job.end()) for shift in self._shifts]
                self._see()  # after the jobs: what one that ended has written is seen
                for shift, end in ends:
                    if end is not None:
                        self._settle(shift, end)
                self._tell(state)
        finally:
            self._crew.stop()
            self._see()

    def _see(self) -> None:
        """Tell of what has come into the folders of the cells."""
        ended, more = self._watch.look()
        if more or ended:
            self._quiet_since = time.monotonic()
        if more:
            self._progress.advance(more)
        for outcome in ended:
            assert outcome.record is not None  # its record is how the watch knows
            self._progress.end(outcome.cell, outcome.record)
            self._on_end(outcome)
            if not outcome.is_done and outcome.cell.runner.on_error == "stop":
                self._stopped = True
        if self._stopped and ended:
            self._progress.say("runner.on_error=stop: the sweep ends here")

    def _settle(self, shift: Shift, end: End) -> None:
        """Start a job that died again, without the cell that killed it twice; leave what other ends have left."""
        left = [cell for cell in shift.cells if self._watch.is_open(cell)]
        if left and end.died and not self._stopped:
            self._progress.say(f"{shift.job.title} {end.told}. {_last_lines(shift.job.log)}")
            left = self._spared(shift, left, end)
        if left and end.died and not self._stopped and shift.spoilt < SPOILT:
            shift.cells, shift.reached = left, self._reached(left)
            write_part(shift.path, left)
            shift.job = self._crew.start([shift.path])[0]
            self._progress.say(f"{shift.job.title} goes on with {_count(len(left), 'cell')}.")
            return
        self._shifts.remove(shift)
        if left and not self._stopped and not end.died:
            self._progress.say(f"{shift.job.title} {end.told}. {_last_lines(shift.job.log)}")
        for cell in left:
            self._give_up(cell, shift.job, end)

    def _spared(self, shift: Shift, left: list[Cell], end: End) -> list[Cell]:
        """Return the cells to go on with. What dies at the same place twice is given up there."""
        if self._reached(shift.cells) > shift.reached:
            shift.deaths = shift.spoilt = 0
        shift.deaths += 1
        if shift.deaths < TRIES:
            return left
        shift.deaths = 0
        shift.spoilt += 1
        # The cells of a group take turns: the one in flight is the first that has the fewest examples.
        culprit = min(groups_of(left)[0], key=self._watch.rows)
        self._progress.say(f"{culprit.title}: given up, its job died there {TRIES} times.")
        self._give_up(culprit, shift.job, end)
        return [cell for cell in left if cell is not culprit]

    def _give_up(self, cell: Cell, job: Job, end: End) -> None:
        note = "" if self._stopped else f"{job.title} {end.told}, see {job.log}"
        outcome = self._watch.close(cell, note)
        if outcome.record is not None:
            self._progress.finished(cell, "computed by another run")
        self._on_end(outcome)

    def _reached(self, cells: Sequence[Cell]) -> int:
        """A number that grows with every example and every cell that ends."""
        return sum(self._watch.rows(cell) + (not self._watch.is_open(cell)) for cell in cells)

    def _tell(self, state: str) -> None:
        """Say when jobs wait for machines, and what they say themselves when nothing else has come for a while."""
        if state != self._told:
            self._told = state
            self._quiet_since = time.monotonic()
            if state:
                self._progress.say(state)
        if time.monotonic() - self._quiet_since > QUIET_S:
            self._quiet_since = time.monotonic()
            for shift in self._shifts:
                line = " ".join(_tail(shift.job.log, 1))
                if line != shift.said:
                    shift.said = line
                    self._progress.say(f"{shift.job.title}: {line}")


@contextmanager
def _gone_when_refused(folder: Path) -> Iterator[None]:
    """Remove `folder`, and those above it that were not there before, where a `UserError` is raised."""
    made = [place for place in folder.parents if not place.exists()]
    try:
        yield
    except UserError:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # others may have come to write there
            for place in made:
                place.rmdir()
        raise


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _last_lines(log: Path) -> str:
    """Return where the log is, and its last lines."""
    return "\n  ".join([f"The last lines of {log}:", *(_tail(log, LAST_LINES) or ["(empty)"])])


def _tail(log: Path, lines: int) -> list[str]:
    """Return the last lines of a log, none where it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(file.seek(0, 2) - TAIL_BYTES, 0))
            return file.read().decode(errors="replace").rstrip().splitlines()[-lines:]
    except OSError:
        return []
