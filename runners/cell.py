"""One cell of a sweep: what a config asks for, built and named."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mage.budget import Budget
from mage.errors import UserError
from mage.generation.decoding import Decoding
from mage.method import Method
from runners.building import build, build_task
from runners.checkpoint import Checkpoint, inspect
from runners.identity import identity_of
from runners.record import CellLabels
from runners.runner import CellRunner
from runners.settings import ModelSettings, Settings, checkpoint_folder, read_settings
from tasks.task import Task


@dataclass(frozen=True)
class Cell:
    """A validated cell. `budget` is None where the method uses none. `folder` is where its results go."""

    config: dict[str, Any]
    settings: Settings
    budget: Budget | None
    method: Method
    task: Task
    decoding: Decoding
    runner: CellRunner
    checkpoint: Checkpoint
    labels: CellLabels
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
    def model_key(self) -> tuple[str, ModelSettings]:
        """Cells with the same key are computed with the same loaded model."""
        return self.checkpoint.content_hash, self.settings.model

    @property
    def prompts_key(self) -> tuple[Hashable, ...]:
        """Cells with the same key have the same prompts for the same model, and can share their prefill."""
        task = self.task
        return self.model_key, task.content_hash, task.question, self.settings.seed, self.settings.examples


def read_cell(config: Mapping[str, Any]) -> Cell:
    """Validate a resolved config and build what it names, without loading a model. Raises `UserError`."""
    settings, budget = read_settings(config)
    built = {}
    for name, kind in (("method", Method), ("decoding", Decoding), ("runner", CellRunner)):
        built[name] = build(name, config[name])
        if not isinstance(built[name], kind):
            raise UserError(f"{name}._target_={config[name]['_target_']}: not a {kind.__name__}.")
    method, task = built["method"], build_task(settings)
    if method.uses_budget:
        method.check_budget(budget)
    if refusal := built["runner"].refusal(method):
        raise UserError(f"method={_label(settings.method, type(method).__name__)}: {refusal}.")
    checkpoint = inspect(checkpoint_folder(settings))
    labels = CellLabels(
        model=settings.model.name,
        method=_label(settings.method, type(method).__name__),
        budget=budget.value if method.uses_budget else None,
        task=_label(settings.task, task.name),
        decoding=_label(settings.decoding, type(built["decoding"]).__name__),
        question=task.question,
        seed=settings.seed,
        runner=_label(settings.runner, type(built["runner"]).__name__),
        metric=task.metric,
        source=task.source,
    )
    hashes = {"model_hash": checkpoint.content_hash, "task_hash": task.content_hash}
    identity = identity_of(config, **hashes, uses_budget=method.uses_budget)
    return Cell(
        config=dict(config),
        settings=settings,
        budget=budget if method.uses_budget else None,
        method=method,
        task=task,
        decoding=built["decoding"],
        runner=built["runner"],
        checkpoint=checkpoint,
        labels=labels,
        identity=identity,
    )


def _label(section: Mapping[str, Any], default: str) -> str:
    return str(section.get("name", default))
