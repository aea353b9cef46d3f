"""Experiment tracking: what a sweep and a training tell to a tracker. Its trouble never costs a result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runners.cell import Cell
    from runners.record import CellRecord
    from runners.sweeping.outcome import Outcome


class SweepRun:
    """A sweep, as a tracker sees it: nobody, unless a subclass does."""

    def progress(self, counts: Mapping[str, int]) -> None:
        """Show how far the sweep is, by `done`, `skipped`, `failed` and `cells`, which is all. Returns at once."""

    def finish(self, outcomes: Sequence[Outcome]) -> None:
        """Show what became of all cells and end the run. Waits for what was reported, as `Tracker.flush` does."""


class Curves:
    """A training run, as a tracker sees it: nobody, unless a subclass does."""

    def log(self, step: int, points: Mapping[str, float]) -> None:
        """Show the numbers of a step."""

    def finish(self, status: str) -> None:
        """End the run: `done`, or `unfinished` when it was interrupted."""


class Tracker(ABC):
    """Where cells, sweeps and trainings are shown besides their records. `say` tells the user what they should know."""

    @abstractmethod
    def report(self, cell: Cell, record: CellRecord, say: Callable[[str], None]) -> None:
        """Show a cell that has its record, done or failed: one run, which is closed at once.

        Called in whichever process computed the cell, once its folder is no longer locked. Returns at once.
        """

    def flush(self) -> None:
        """Wait, within bounds, until what was reported in this process has arrived. Before a process ends."""
        return

    def sweep(self, name: str, cells: Sequence[Cell], say: Callable[[str], None]) -> SweepRun:
        """Begin the summary of a sweep over `cells`, the finished ones too. In the coordinator only."""
        return SweepRun()

    def follow(self, config: Mapping[str, Any], name: str, say: Callable[[str], None]) -> Curves:
        """Begin a run for a training of a resolved config; a tracker of cells only shows nothing of it."""
        return Curves()


@dataclass
class NoTracker(Tracker):
    """tracker=none."""

    def report(self, cell: Cell, record: CellRecord, say: Callable[[str], None]) -> None:
        """The record is all there is."""


class Guarded(Tracker):
    """Stands between a sweep and its tracker: whatever that raises is said once and changes nothing else."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker, self._told = tracker, False
        self._say: Callable[[str], None] = print

    def report(self, cell: Cell, record: CellRecord, say: Callable[[str], None]) -> None:
        self._say = say
        self._try(lambda: self._tracker.report(cell, record, say))

    def flush(self) -> None:
        self._try(self._tracker.flush)

    def sweep(self, name: str, cells: Sequence[Cell], say: Callable[[str], None]) -> SweepRun:
        self._say = say
        opened: list[SweepRun] = []
        self._try(lambda: opened.append(self._tracker.sweep(name, cells, say)))
        return GuardedSweep(opened[0], self._try) if opened else SweepRun()

    def follow(self, config: Mapping[str, Any], name: str, say: Callable[[str], None]) -> Curves:
        self._say = say
        opened: list[Curves] = []
        self._try(lambda: opened.append(self._tracker.follow(config, name, say)))
        return GuardedCurves(opened[0], self._try) if opened else Curves()

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            if not self._told:
                self._told = True
                told = (
                    f"tracker: {first_line(error)}. Some runs are not tracked; their records are written all the same."
                )
                self._say(told)


class GuardedSweep(SweepRun):
    """The run of a sweep that may fail without harm."""

    def __init__(self, run: SweepRun, attempt: Callable[[Callable[[], None]], None]) -> None:
        self._run, self._attempt = run, attempt

    def progress(self, counts: Mapping[str, int]) -> None:
        self._attempt(lambda: self._run.progress(counts))

    def finish(self, outcomes: Sequence[Outcome]) -> None:
        self._attempt(lambda: self._run.finish(outcomes))


class GuardedCurves(Curves):
    """Curves that may fail without harm."""

    def __init__(self, curves: Curves, attempt: Callable[[Callable[[], None]], None]) -> None:
        self._curves, self._attempt = curves, attempt

    def log(self, step: int, points: Mapping[str, float]) -> None:
        self._attempt(lambda: self._curves.log(step, points))

    def finish(self, status: str) -> None:
        self._attempt(lambda: self._curves.finish(status))


def first_line(error: Exception) -> str:
    """Return the kind and the first line of an error."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
