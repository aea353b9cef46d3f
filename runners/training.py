"""What happens around a training run: its folder, its bar, its log, its evaluation, its curves."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.markup import escape

from mage.errors import UserError
from mage.training.trainer import Progress as Standing
from runners.bar import bar
from runners.building import build
from runners.recipe import claim
from runners.store.lock import LockedError, locked
from runners.sweeping.limits import terminable
from runners.tracking.tracker import Curves, Guarded, Tracker

LOG = "train.jsonl"


class Trainable(Protocol):
    """A training loop, such as `mage.training.trainer.Trainer`."""

    @property
    def progress(self) -> Standing: ...
    @property
    def weights(self) -> int: ...
    @property
    def total_steps(self) -> int: ...
    @property
    def steps_left(self) -> int: ...
    def resume(self) -> bool: ...
    def run(self, after_step: Callable[[Standing], None]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """A training loop with its folder and its evaluation.

    examine: write what was learnt so far to `outcome` and return scores by name; asked for every `every` steps and at
    the end. log_every: steps between logged lines. told: what the user is to set to use the outcome. prepare: what is
    done in the folder before; given a function that tells the user a line.
    """

    trainer: Trainable
    folder: Path
    examine: Callable[[], dict[str, float]]
    every: int
    log_every: int
    outcome: Path
    told: str
    prepare: Callable[[Callable[[str], None]], None] = lambda say: None

    def finish(self, display: TrainingDisplay, curves: Curves) -> None:
        """Train from the last state, if there is one, to the end."""
        trainer = self.trainer
        self.prepare(display.print)
        resumed = trainer.resume()
        log = TrainingLog(self.folder / LOG, trainer.progress.step)
        display.begin(trainer, resumed)

        def after_step(standing: Standing) -> None:
            done = trainer.steps_left == 0
            scores = self.examine() if done or standing.step % self.every == 0 else {}
            display.advance(standing, trainer)
            if scores or standing.step % self.log_every == 0:
                log.write(standing, scores)
                curves.log(standing.step, curve_points(standing, scores))
                display.say(standing, scores)

        trainer.run(after_step)
        if not self.outcome.is_dir():  # resumed behind the last step
            self.examine()
        display.end(self.told)


def carry_out(run: TrainingRun, config: Mapping[str, Any], recipe: Mapping[str, Any]) -> int:
    """Bring a run to its end in its folder, which no other process may be at. Returns the exit status.

    Raises `UserError` where the folder is taken or holds a run of another recipe.
    """
    tracker = build("tracker", config["tracker"], Tracker)
    run.folder.mkdir(parents=True, exist_ok=True)
    console = Console() if sys.stdout.isatty() else Console(width=120)
    try:
        with locked(run.folder), terminable(), TrainingDisplay(console) as display:
            claim(run.folder, recipe)
            curves = Guarded(tracker).follow(config, run.folder.name, display.print)
            ended = "unfinished"
            try:
                run.finish(display, curves)
                ended = "done"
            finally:
                curves.finish(ended)
    except LockedError as lock:
        raise UserError(f"name={config['name']}: its folder {run.folder} is {lock}.") from lock
    return 0


def curve_points(standing: Standing, scores: Mapping[str, float]) -> dict[str, float]:
    """Return the numbers of a logged step by the names that a tracker shows them under."""
    plain = {key: float(value) for key, value in vars(standing).items() if isinstance(value, int | float)}
    points = {f"train/{key}": value for key, value in plain.items() if key != "step"}
    points |= {f"next_token/{kind}": value for kind, value in standing.accuracy.items()}
    return points | {f"exact_match/{name}": value for name, value in scores.items()}


class TrainingLog:
    """train.jsonl: one line for each logged step. Lines of steps that a resumed run does again are cut."""

    def __init__(self, path: Path, step: int) -> None:
        self._path, self._began = path, time.monotonic()
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
            path.write_text("".join(kept), encoding="utf-8")

    def write(self, standing: Standing, scores: Mapping[str, float]) -> None:
        """Append a line; `seconds` count from the start of this process."""
        row = {**vars(standing), "seconds": round(time.monotonic() - self._began, 1), "exact_match": dict(scores)}
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")


class TrainingDisplay:
    """A bar over the steps of all stages with the time left, and a line for each logged step."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = bar(console, "left at most")
        self._task = self._bar.add_task("training")

    def __enter__(self) -> TrainingDisplay:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, trainer: Trainable, resumed: bool) -> None:
        """The run starts, or goes on."""
        where = f"from step {trainer.progress.step}" if resumed else "from the start"
        self.print(f"training {trainer.weights / 1e6:.2f} M weights {where} on {torch.get_num_threads()} threads")
        self._bar.update(self._task, total=trainer.total_steps, completed=trainer.progress.step)

    def advance(self, standing: Standing, trainer: Trainable) -> None:
        """A step is done. A stage that ended early makes the bar shorter."""
        total, text = standing.step + trainer.steps_left, f"loss {standing.loss:.2f}"
        self._bar.update(self._task, total=total, completed=standing.step, description=text)

    def say(self, standing: Standing, scores: Mapping[str, float]) -> None:
        """Print where the run stands, above the bar."""
        told = " ".join(f"{kind} {value:.2f}" for kind, value in standing.accuracy.items())
        self.print(f"step {standing.step} loss {standing.loss:.3f} next token: {told}")
        if scores:
            self.print("  exact match: " + " ".join(f"{name} {value:.2f}" for name, value in scores.items()))

    def end(self, told: str) -> None:
        """The run is done."""
        self.print(f"done: {told}")

    def print(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(escape(text), highlight=False, soft_wrap=True)
