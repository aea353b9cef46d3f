"""A reference for the regression gate: score and exact match of every example of every cell in one JSON file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from analysis.contexts import contexts_of, in_order
from analysis.frame import Results, budget_label, load
from analysis.variants import flat
from mage.errors import UserError
from runners.identity import NEUTRAL
from runners.record import CellRecord, Environment

FILE = "reference.json"
DECIMALS = 4
NAMES = {"model", "method", "budget", "task", "decoding", "question", "seed"}
MODEL_SETTINGS = ("block_size", "alignment", "dtype", "yarn")
UNSET = "null"

Labels = tuple[str, str, str, str, str, str]
"""Model, method, budget label, task, decoding, question."""


class ExampleSet(BaseModel):
    """Examples that cells share: ids, and for each a digest of its labels and right answers.

    `contexts`: of each example, where examples share them; else empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    ids: list[str]
    digests: list[str]
    contexts: list[str] = []


class ReferenceCell(BaseModel):
    """A cell, and its scores (0 to 1) and exact matches in the order of the ids of its set. A failed cell has none.

    `settings` are the options that decide what was measured, by dotted field. Weights and code are none of them:
    the gate is there to judge these.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str
    method: str
    budget: int | float | None
    task: str
    decoding: str
    question: str
    seed: int
    identity: str
    status: str
    settings: dict[str, str]
    examples: int
    scores: list[float]
    exact: list[bool]

    @field_validator("settings")
    @classmethod
    def _set(cls, settings: dict[str, str]) -> dict[str, str]:
        """An option that is not set is none: options that came later do not part a cell from its reference."""
        return {field: value for field, value in settings.items() if value != UNSET}

    @property
    def labels(self) -> Labels:
        """The names of the cell's choices, without its seed."""
        return (self.model, self.method, budget_label(self.budget), self.task, self.decoding, self.question)


class Reference(BaseModel):
    """All cells of a sweep, the environment of its first cell, and the command that made it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_version: Literal[1] = 1
    command: str
    environment: Environment
    sets: list[ExampleSet]
    cells: list[ReferenceCell]

    @model_validator(mode="after")
    def _lengths_agree(self) -> Reference:
        for examples in self.sets:
            if len(examples.ids) != len(examples.digests):
                raise ValueError(f"{len(examples.ids)} ids and {len(examples.digests)} digests in one set")
            if examples.contexts and len(examples.contexts) != len(examples.ids):
                raise ValueError(f"{len(examples.ids)} ids and {len(examples.contexts)} contexts in one set")
        for cell in self.cells:
            if not 0 <= cell.examples < len(self.sets):
                raise ValueError(f"cell {cell.identity} names set {cell.examples} of {len(self.sets)}")
            for name in ("scores", "exact"):
                count = len(getattr(cell, name))
                if cell.status == "done" and count != len(self.sets[cell.examples].ids):
                    raise ValueError(f"cell {cell.identity} has {count} {name} for its examples")
        return self

    def write(self, path: Path) -> None:
        """One line a set and one a cell, so that a change of one cell is a change of one line."""
        lines = [f'"{name}": {json.dumps(getattr(self, name))}' for name in ("schema_version", "command")]
        lines.append(f'"environment": {self.environment.model_dump_json()}')
        for name, entries in (("sets", self.sets), ("cells", self.cells)):
            rows = ",\n".join(_compact(entry.model_dump()) for entry in entries)
            lines.append(f'"{name}": [\n{rows}\n]')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _compact(entry: dict[str, Any]) -> str:
    if entry.get("contexts") == []:
        del entry["contexts"]
    if "scores" in entry:
        entry["scores"] = [int(s) if s in (0, 1) else s for s in entry["scores"]]
        entry["exact"] = [int(e) for e in entry["exact"]]
    return json.dumps(entry, separators=(",", ":"))


def reference_of(results: Results, command: str) -> Reference:
    """The reference that `results` (runner=evaluate) make. Raises UserError when there is nothing to compare."""
    cells = results.cells[results.cells.runner == "evaluate"]
    if cells.empty:
        raise UserError("no record of runner=evaluate in the results: there is no accuracy to compare")
    answered: dict[Any, pd.DataFrame] = dict(iter(results.examples.groupby("cell")))
    sets: dict[tuple[tuple[str, ...], ...], int] = {}
    written: list[ReferenceCell] = []
    for number, cell in cells.iterrows():
        done = cell.status == "done" and number in answered
        rows = answered[number].sort_values("id") if done else results.examples.iloc[:0]
        contexts = in_order(rows.id, contexts_of(dict(zip(rows.id, rows["labels"], strict=True)))) or ()
        key = (tuple(rows.id), tuple(_digest(row) for _, row in rows.iterrows()), tuple(contexts))
        record = cell.record
        written.append(
            ReferenceCell(
                **record.labels.model_dump(include=NAMES),
                identity=record.identity,
                status=record.status,
                settings=settings_of(record),
                examples=sets.setdefault(key, len(sets)),
                scores=[round(float(s), DECIMALS) for s in rows.score],
                exact=[bool(e) for e in rows.exact],
            )
        )
    first = min((r.environment for r in cells.record), key=lambda e: e.started)
    shared = [ExampleSet(ids=list(i), digests=list(d), contexts=list(c)) for i, d, c in sets]
    return Reference(command=command, environment=first, sets=shared, cells=written)


def settings_of(record: CellRecord) -> dict[str, str]:
    """Everything in a record's config that decides what is measured, but for weights and what its labels say. What
    computes it may differ, as answers are the same: `attention`, `capture` and `fuse_commit`."""
    config = record.config
    model = config.get("model", {})
    kept = {
        "model": {field: model[field] for field in MODEL_SETTINGS if field in model},
        **{part: config.get(part, {}) for part in ("method", "task", "decoding")},
        "seed": record.labels.seed,
    }
    neutral = flat(NEUTRAL).items()
    return {
        field: value
        for field, value in flat(kept).items()
        if not field.endswith((".name", ".question")) and (field, value) not in neutral
    }


def read_reference(path: Path) -> Reference:
    """Reads a reference file, or makes one from a folder: its reference.json, or else its records. Raises UserError."""
    if path.is_dir():
        if not (path / FILE).is_file():
            return reference_of(load([path]), command=f"records of {path}")
        path = path / FILE
    if not path.is_file():
        raise UserError(f"no reference at {path}: --write makes one")
    try:
        return Reference.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "(the whole text)"
        raise UserError(f"{path}: field {field}: {first['msg']}") from error


def _digest(row: pd.Series) -> str:
    """Changes when an example of the same id became another one."""
    content = json.dumps([row["references"], row["labels"]], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:8]
