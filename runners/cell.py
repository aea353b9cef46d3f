"""One cell of a sweep: what a config asks for, built and named."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mage.attention.implementation import resolve
from mage.budget import Budget
from mage.errors import UserError
from mage.generation.decoding import Decoding, Filling
from mage.method import Method
from runners.building import CONF, build, build_task
from runners.checkpoint import Checkpoint, inspect
from runners.choices import read_choice
from runners.identity import identity_of
from runners.record import CellLabels
from runners.runner import CellRunner
from runners.settings import ModelSettings, Settings, read_settings
from tasks.errors import TaskError
from tasks.task import Task

OF_THE_SWEEP = ("launcher", "plan")
"""Fields of the config that are a matter of the sweep, not of its cells."""


@dataclass(frozen=True)
class Cell:
    """A validated cell. `budget` is None where the method uses none, `task` where the runner does; `config` is what it
    uses of `given`, the config as it was given. `attention` is the implementation that runs. `folder` is where its
    results go."""

    given: Mapping[str, Any]
    config: dict[str, Any]
    settings: Settings
    budget: Budget | None
    method: Method
    task: Task | None
    decoding: Decoding
    runner: CellRunner
    checkpoint: Checkpoint
    labels: CellLabels
    attention: Literal["torch", "triton"]
    task_hash: str
    identity: str

    @property
    def name(self) -> str:
        """The cell's folder name: its labels and the start of its identity."""
        labels = self.labels
        budget = "all" if labels.budget is None else str(labels.budget)
        parts = (labels.model, labels.method, budget, labels.task, labels.decoding, f"s{labels.seed}")
        return re.sub(r"[^A-Za-z0-9._-]", "_", "-".join((*parts, self.identity[:8])))

    @property
    def folder(self) -> Path:
        """Where the cell's results go."""
        return Path(self.settings.output_dir) / self.settings.name / self.name

    @property
    def title(self) -> str:
        """A short name for a person, such as `mage 64 niah`."""
        return " ".join(name for name in self.shown if name)

    @property
    def shown(self) -> tuple[str, str, str]:
        """Method, budget and task, as tables show them."""
        return self.labels.method, "" if self.budget is None else self.budget.label, self.labels.task

    @property
    def model_key(self) -> tuple[str, str]:
        """Cells with the same key are computed with the same loaded model."""
        return self.checkpoint.content_hash, self.settings.model.model_dump_json()

    @property
    def weights_key(self) -> tuple[str, str]:
        """Cells with the same key are computed with the same loaded body, however blocks are written with it."""
        return self.checkpoint.body_hash, self.settings.model.model_dump_json(include={"device", "dtype", "threads"})

    @property
    def prompts_key(self) -> tuple[Hashable, ...]:
        """Cells with the same key have the same prompts for the same model."""
        return self.model_key, *self._examples_key

    @property
    def prefix_key(self) -> tuple[Hashable, ...]:
        """Cells with the same key can share their prefill: a causal one depends on neither block size nor adapter."""
        causal = self.settings.model.prefix_attention == "causal"
        return self.weights_key if causal else self.model_key, self.attention, *self._examples_key

    @property
    def _examples_key(self) -> tuple[Hashable, ...]:
        task = json.dumps(self.config.get("task"), sort_keys=True)
        return self.task_hash, task, self.settings.seed, self.settings.examples, self.runner.workload


def read_cell(config: Mapping[str, Any]) -> Cell:
    """Validate a resolved config and build what it names, without loading a model. Raises `UserError`."""
    settings, budget = read_settings(config)
    attention = resolve(settings.attention, settings.model.device)
    method: Method = build("method", config["method"], Method)
    decoding: Decoding = build("decoding", config["decoding"], Decoding)
    runner: CellRunner = build("runner", config["runner"], CellRunner)
    task = None if "task" in runner.unused else build_task(settings)
    if method.uses_budget:
        method.check_budget(budget)
    if refusal := runner.refusal(method):
        raise UserError(f"method={_label(settings.method, type(method).__name__)}: {refusal}.")
    model = runner.fitted(settings.model, fuse_commit=settings.fuse_commit)
    settings = settings.model_copy(update={"model": model})
    checkpoint = inspect(settings.model)
    deciding = _deciding(config["decoding"], decoding, settings.model.block_size)
    labels = CellLabels(
        model=settings.model.name,
        method=_label(settings.method, type(method).__name__),
        budget=budget.value if method.uses_budget else None,
        task=runner.subject if task is None else _label(settings.task, task.name),
        decoding=_label(deciding, type(decoding).__name__),
        question="" if task is None else task.question,
        seed=settings.seed,
        runner=_label(settings.runner, type(runner).__name__),
        metric="" if task is None else task.metric,
        source="" if task is None else task.source,
        extended=_extended(settings.model, task, checkpoint),
    )
    unused = (*runner.unused, *OF_THE_SWEEP)
    used = {field: value for field, value in {**config, "decoding": deciding}.items() if field not in unused}
    hashes = {"model_hash": checkpoint.content_hash, "task_hash": "" if task is None else _task_hash(task)}
    identity = identity_of(used, **hashes, uses_budget=method.uses_budget, attention=attention)
    return Cell(
        given=config,
        config=used,
        settings=settings,
        budget=budget if method.uses_budget else None,
        method=method,
        task=task,
        decoding=decoding,
        runner=runner,
        checkpoint=checkpoint,
        labels=labels,
        attention=attention,
        task_hash=hashes["task_hash"],
        identity=identity,
    )


def _deciding(section: Mapping[str, Any], decoding: Decoding, block_size: int) -> Mapping[str, Any]:
    """Return what the section `decoding` of the config says of a cell: in blocks of one token what `static` says.

    A policy that fills decides which of several slots come first. A block of one token leaves it no choice: its token
    is there before the first step, or is what this step fills. (Policies that edit look at that token again.)
    """
    fixed = block_size == 1 and isinstance(decoding, Filling)
    return read_choice(CONF / "decoding", "static") if fixed else section


def _task_hash(task: Task) -> str:
    """Return the hash of what the task's examples are made of. Raises `UserError` where that cannot be read."""
    try:
        return task.content_hash
    except TaskError as error:
        raise UserError(str(error)) from error


def _extended(model: ModelSettings, task: Task | None, checkpoint: Checkpoint) -> str:
    """Return how the positions were stretched beyond those that the model was trained with, empty where they were not.

    A task that does not say how long its contexts are may fill all positions that its own limit allows.
    """
    if model.yarn is not None:
        return f"YaRN x{model.yarn:g}"
    if task is None:
        return ""
    limit: int | None = getattr(task, "max_prompt_tokens", None)
    room = checkpoint.config.max_positions
    longest = max(task.context_lengths(), default=min(limit or room, room))
    return "untrained positions" if longest > checkpoint.trained_positions else ""


def _label(section: Mapping[str, Any], default: str) -> str:
    return str(section.get("name", default))
