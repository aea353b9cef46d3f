"""What happens around a training run: its bar, its log, its checkpoint, its evaluation."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from baselines.dense import Dense
from mage.generation.engine import Engine
from mage.models.checkpoint import DTYPES, LanguageModel, load_model
from mage.training.export import export_checkpoint
from mage.training.trainer import Progress as Standing
from mage.training.trainer import Trainer
from runners.building import build
from runners.feasibility import diffusion_spec
from runners.settings import ModelSettings
from tasks.prompt import assemble
from tasks.task import Task
from tasks.tiny_words import SPECIAL, VOCABULARY

if TYPE_CHECKING:
    from runners.train import Train

LOG = "train.jsonl"


class TrainingRun:
    """A trainer with its checkpoint folder and its evaluation; `UserError` for an evaluation that cannot be built.

    model: the section of the config that says how the trained model writes a block.
    """

    def __init__(self, recipe: Train, trainer: Trainer, folder: Path, model: Mapping[str, Any]) -> None:
        wanted = recipe.evaluation
        self._recipe, self._trainer, self._folder = recipe, trainer, folder
        self._tasks = {name: build(f"runner.evaluation.tasks.{name}", task) for name, task in wanted.tasks.items()}
        self._decoding = build("runner.evaluation.decoding", wanted.decoding)
        self._spec = diffusion_spec(ModelSettings.model_validate(model))

    @property
    def checkpoint(self) -> Path:
        """A folder for `model.weights`, written at each evaluation."""
        return self._folder / "checkpoint"

    def finish(self, display: TrainingDisplay) -> None:
        """Train from the last state, if there is one, to the end."""
        trainer, recipe = self._trainer, self._recipe
        resumed = trainer.resume()
        log = TrainingLog(self._folder / LOG, trainer.progress.step)
        display.begin(trainer, resumed)

        def after_step(standing: Standing) -> None:
            done = standing.stage == len(trainer.stages)
            scores = self.evaluate() if done or standing.step % recipe.evaluation.every == 0 else {}
            display.advance(standing, trainer)
            if scores or standing.step % recipe.log_every == 0:
                log.write(standing, scores)
                display.say(standing, scores)

        trainer.run(after_step)
        if not self.checkpoint.is_dir():  # resumed behind the last step
            self.evaluate()
        display.end(self.checkpoint)

    def evaluate(self) -> dict[str, float]:
        """Write the checkpoint, load it as any model is loaded, and return the exact match of each task."""
        dtype = DTYPES[self._recipe.checkpoint_dtype]
        export_checkpoint(self._trainer.body, self.checkpoint, VOCABULARY, SPECIAL, dtype)
        engine = Engine(load_model(self.checkpoint, self._spec), Dense(), self._decoding)
        return {name: exact_match(engine, task, self._recipe.evaluation.examples) for name, task in self._tasks.items()}


def exact_match(engine: Engine, task: Task, count: int) -> float:
    """Return the share of `count` examples that the model answers exactly."""
    model: LanguageModel = engine.model
    size, right = model.spec.block_size, 0
    for example in task.examples(model.tokenizer, count, seed=1, block_size=size):
        prompt = assemble(example, model.tokenizer, size, getattr(task, "question", "block"), model.max_positions)
        answer = engine.generate(engine.prefill([prompt.tokens], [example.max_new_tokens]))[0]
        right += task.score(example, model.tokenizer.decode(answer.tokens)).exact
    return right / count


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
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left at most"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("training")

    def __enter__(self) -> TrainingDisplay:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, trainer: Trainer, resumed: bool) -> None:
        """The run starts, or goes on."""
        weights = sum(weight.numel() for weight in trainer.body.parameters())
        where = f"from step {trainer.progress.step}" if resumed else "from scratch"
        self._print(f"training {weights / 1e6:.2f} M weights {where} on {torch.get_num_threads()} threads")
        self._bar.update(self._task, total=trainer.total_steps, completed=trainer.progress.step)

    def advance(self, standing: Standing, trainer: Trainer) -> None:
        """A step is done. A stage that ended early makes the bar shorter."""
        stage = min(standing.stage + 1, len(trainer.stages))
        total = standing.step + trainer.steps_left
        text = f"stage {stage} of {len(trainer.stages)}, loss {standing.loss:.2f}"
        self._bar.update(self._task, total=total, completed=standing.step, description=text)

    def say(self, standing: Standing, scores: Mapping[str, float]) -> None:
        """Print where the run stands, above the bar."""
        told = " ".join(f"{kind} {value:.2f}" for kind, value in standing.accuracy.items())
        self._print(f"step {standing.step} stage {standing.stage + 1} loss {standing.loss:.3f} next token: {told}")
        if scores:
            self._print("  exact match: " + " ".join(f"{name} {value:.2f}" for name, value in scores.items()))

    def end(self, checkpoint: Path) -> None:
        """The run is done."""
        self._print(f"done: model.weights={checkpoint}")

    def _print(self, text: str) -> None:
        self._console.print(escape(text), highlight=False, soft_wrap=True)
