"""Experiment tracking: one Weights & Biases run a cell or training, or none. Its trouble never costs a result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from runners.record import CellRecord

if TYPE_CHECKING:
    from runners.cell import Cell

# Exit codes as W&B shows them: finished, failed, killed.
EXIT_CODES = {"done": 0, "unfinished": 130}


class TrackedRun(ABC):
    """One cell, as a tracker sees it."""

    @abstractmethod
    def finish(self, record: CellRecord | None) -> None:
        """End the run. `record` is None when the cell was interrupted."""


class Curves:
    """A training run, as a tracker sees it: nobody, unless a subclass does."""

    def log(self, step: int, points: Mapping[str, float]) -> None:
        """Show the numbers of a step."""

    def finish(self, status: str) -> None:
        """End the run: `done`, or `unfinished` when it was interrupted."""


class Tracker(ABC):
    """Where runs are shown besides their records."""

    @abstractmethod
    def start(self, cell: Cell, say: Callable[[str], None]) -> TrackedRun:
        """Begin a run for `cell`. `say` tells the user what they should know."""

    def follow(self, config: Mapping[str, Any], name: str, say: Callable[[str], None]) -> Curves:
        """Begin a run for a training of a resolved config; a tracker of cells only shows nothing of it."""
        return Curves()


class NoTrackedRun(TrackedRun):
    """A run that nobody tracks."""

    def finish(self, record: CellRecord | None) -> None:
        """The record is all there is."""


@dataclass
class NoTracker(Tracker):
    """tracker=none."""

    def start(self, cell: Cell, say: Callable[[str], None]) -> TrackedRun:
        return NoTrackedRun()


class Guarded(Tracker):
    """Stands between a sweep and its tracker: whatever that raises is said once and changes nothing else."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker, self._told = tracker, False

    def start(self, cell: Cell, say: Callable[[str], None]) -> TrackedRun:
        try:
            return GuardedRun(self._tracker.start(cell, say), lambda error: self._tell(error, say))
        except Exception as error:
            self._tell(error, say)
            return NoTrackedRun()

    def follow(self, config: Mapping[str, Any], name: str, say: Callable[[str], None]) -> Curves:
        try:
            return GuardedCurves(self._tracker.follow(config, name, say), lambda error: self._tell(error, say))
        except Exception as error:
            self._tell(error, say)
            return Curves()

    def _tell(self, error: Exception, say: Callable[[str], None]) -> None:
        if not self._told:
            self._told = True
            say(f"tracker: {_first_line(error)}. Some runs are not tracked; their records are written all the same.")


class GuardedRun(TrackedRun):
    """A run whose end may fail without harm."""

    def __init__(self, run: TrackedRun, tell: Callable[[Exception], None]) -> None:
        self._run, self._tell = run, tell

    def finish(self, record: CellRecord | None) -> None:
        try:
            self._run.finish(record)
        except Exception as error:
            self._tell(error)


class GuardedCurves(Curves):
    """Curves that may fail without harm."""

    def __init__(self, curves: Curves, tell: Callable[[Exception], None]) -> None:
        self._curves, self._tell = curves, tell

    def log(self, step: int, points: Mapping[str, float]) -> None:
        try:
            self._curves.log(step, points)
        except Exception as error:
            self._tell(error)

    def finish(self, status: str) -> None:
        try:
            self._curves.finish(status)
        except Exception as error:
            self._tell(error)


class WandbCurves(Curves):
    """A run of W&B with a point for each logged step."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, step: int, points: Mapping[str, float]) -> None:
        self._run.log(dict(points), step=step)

    def finish(self, status: str) -> None:
        self._run.summary.update({"status": status})
        self._run.finish(exit_code=EXIT_CODES.get(status, 1))


class WandbRun(TrackedRun):
    """A run of W&B. Its summary holds the metrics of the record by the same names, `status` and `error`."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def finish(self, record: CellRecord | None) -> None:
        status = record.status if record else "unfinished"
        self._run.summary.update({"status": status})
        if record:
            self._run.summary.update(dict(record.metrics))
            if record.error:
                self._run.summary.update({"error": record.error})
        self._run.finish(exit_code=EXIT_CODES.get(status, 1))


@dataclass
class WandbTracker(Tracker):
    """tracker=wandb. Offline by default: no account, no prompt, no network; `wandb sync` uploads later.

    `mode=online` falls back to offline, and says so once, when there are no credentials or the server does not answer
    within `timeout_s`. Runs are grouped by experiment; `dir` is where W&B keeps its files. A cell that was killed and
    resumed, or failed and was tried again, has one run for each attempt.
    """

    mode: Literal["offline", "online"] = "offline"
    project: str = "mage"
    entity: str | None = None
    dir: str = "outputs"
    timeout_s: float = 15.0
    _reachable: bool = field(default=True, init=False)

    def start(self, cell: Cell, say: Callable[[str], None]) -> TrackedRun:
        config = {**cell.config, "identity": cell.identity, "labels": cell.labels.model_dump()}
        return WandbRun(self._open(cell.settings.name, cell.name, cell.labels.runner, config, say))

    def follow(self, config: Mapping[str, Any], name: str, say: Callable[[str], None]) -> Curves:
        return WandbCurves(self._open(config["name"], name, str(config["runner"].get("name")), config, say))

    def _open(self, group: str, name: str, job: str, config: Mapping[str, Any], say: Callable[[str], None]) -> Any:
        """Begin a run of W&B, online where that is asked for and can be had."""
        import wandb

        described = {"group": group, "name": name, "job_type": job, "config": dict(config)}
        if self.mode == "online" and self._reachable:
            try:
                # Asked without a prompt: a sweep must not stop to wait for a key.
                if not wandb.login(prompt=False, verify=False):
                    raise wandb.errors.UsageError("no credentials; `wandb login` stores them")
                return self._init("online", described)
            except Exception as error:  # whatever a server or its client may say
                self._reachable = False
                say(f"W&B: {_first_line(error)}. Runs go on offline; `wandb sync` uploads them later.")
        return self._init("offline", described)

    def _init(self, mode: Literal["offline", "online"], described: Mapping[str, Any]) -> Any:
        import wandb

        return wandb.init(
            **described,
            project=self.project,
            entity=self.entity,
            dir=self.dir,
            mode=mode,
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", init_timeout=self.timeout_s),
        )


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
