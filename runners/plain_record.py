"""A cell's record written without the schema that reads it: for machines that have little more than torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runners.identity import identity_of
from runners.store.durability import replace

EXAMPLES_NAME, RECORD_NAME = "examples.jsonl", "record.json"


@dataclass(frozen=True)
class PlainRecord:
    """What `runners.record.CellRecord` says of a cell without a task. `labels` and `environment` hold its fields;
    `model_hash`: of what the weights are."""

    labels: dict[str, Any]
    config: dict[str, Any]
    environment: Mapping[str, Any]
    model_hash: str
    status: str
    error: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()

    @property
    def identity(self) -> str:
        """As that of any other cell."""
        uses_budget = self.labels["budget"] is not None
        attention = str(self.environment["attention"])
        return identity_of(
            self.config, model_hash=self.model_hash, task_hash="", uses_budget=uses_budget, attention=attention
        )

    @property
    def name(self) -> str:
        """The name of the cell's folder."""
        names = [str(self.labels[key]) for key in ("model", "method", "budget", "task", "decoding")]
        return re.sub(r"[^A-Za-z0-9._-]", "_", "-".join([*names, f"s{self.labels['seed']}", self.identity[:8]]))

    def write(self, experiment: Path) -> Path:
        """Write the cell below `experiment`, its record last and at once, and return its folder."""
        folder = experiment / self.name
        folder.mkdir(parents=True, exist_ok=True)
        content = "".join(json.dumps(row, allow_nan=False) + "\n" for row in self.rows).encode()
        (folder / EXAMPLES_NAME).write_bytes(content)
        record = {
            "schema_version": 1,
            "identity": self.identity,
            "name": self.name,
            "experiment": experiment.name,
            "status": self.status,
            "error": self.error,
            "labels": self.labels,
            "config": self.config,
            "environment": dict(self.environment),
            "metrics": dict(self.metrics),
            "examples": {
                "path": EXAMPLES_NAME,
                "count": len(self.rows),
                "sha256": hashlib.sha256(content).hexdigest(),
            },
        }
        write_json(folder / RECORD_NAME, record)
        return folder


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file that is there whole or not at all, and its folder where there is none. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, json.dumps(content, indent=1, allow_nan=False).encode() + b"\n")
