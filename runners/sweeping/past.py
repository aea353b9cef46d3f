"""How long examples took in past cells: what a plan's estimate is made of."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import torch
from pydantic import ValidationError

from runners.cell import Cell
from runners.environment import device_name
from runners.record import EXAMPLES_NAME, RECORD_NAME, CellRecord

BODY = ("name", "weights", "body", "dtype", "threads")
"""Fields of conf/model that decide how long a forward takes."""


@dataclass(frozen=True)
class Pace:
    """Median seconds an example. `near`: taken from cells of another method, budget, or options of the task."""

    seconds: float
    near: bool


@dataclass(frozen=True)
class _PastCell:
    """A finished cell: its record, and where its examples are."""

    record: CellRecord
    folder: Path = field(compare=False)

    @cached_property
    def seconds(self) -> list[dict[str, float]]:
        """The seconds of each example by kind; none where the runner measures none."""
        try:
            lines = (self.folder / EXAMPLES_NAME).read_text(encoding="utf-8").splitlines()
            found = [json.loads(line).get("seconds") for line in lines]
        except (OSError, ValueError):
            return []
        return [seconds for seconds in found if isinstance(seconds, dict) and "prefill" in seconds]


class Past:
    """The finished cells of all experiments below some folders. Nothing is told of what they do not hold."""

    def __init__(self, folders: Iterable[Path]) -> None:
        found = []
        for path in sorted(path for folder in folders for path in folder.glob(f"*/*/{RECORD_NAME}")):
            try:
                record = CellRecord.model_validate_json(path.read_bytes())
            except (OSError, ValidationError):
                continue
            if record.status == "done" and "seconds_prefill" in record.metrics:
                found.append(_PastCell(record, path.parent))
        self._cells = found

    def prefill(self, cell: Cell) -> Pace | None:
        """Return what the prefill of an example of `cell` takes, None where no past cell had such prompts."""
        return self._nearest(cell, [past for past in self._cells if _same_prompts(past.record, cell)], _prefill)

    def decode(self, cell: Cell) -> Pace | None:
        """Return what the answer to an example of `cell` takes, None where no past cell decoded such prompts so."""
        alike = [past for past in self._cells if _same_prompts(past.record, cell) and _same_blocks(past.record, cell)]
        return self._nearest(cell, alike, _decode)

    def examples(self, cell: Cell) -> int | None:
        """Return how many examples a past cell of the same task had where it asked for as many."""
        for past in self._cells:
            asked = past.record.config
            same = asked.get("task") == cell.config.get("task") and asked.get("examples") == cell.settings.examples
            if same and past.record.examples is not None:
                return past.record.examples.count
        return None

    def _nearest(self, cell: Cell, alike: Sequence[_PastCell], kind: Any) -> Pace | None:
        ranked: dict[tuple[float, ...], list[float]] = {}
        for past in alike:
            rank = _distance(past.record, cell, decodes=kind is _decode)
            ranked.setdefault(rank, []).extend(map(kind, past.seconds))
        measured = {rank: seconds for rank, seconds in ranked.items() if seconds}
        if not measured:
            return None
        best = min(measured)
        return Pace(median(measured[best]), near=any(best))


def _prefill(seconds: dict[str, float]) -> float:
    return seconds["prefill"]


def _decode(seconds: dict[str, float]) -> float:
    return sum(seconds.values()) - seconds["prefill"]


def _same_prompts(past: CellRecord, cell: Cell) -> bool:
    """Whether the same body read prompts of the same task and lengths on the same device, as many at a time."""
    model, asked = past.config.get("model", {}), cell.config["model"]
    return (
        all(model.get(name) == asked.get(name) for name in BODY)
        and _same_device(past, cell)
        and past.labels.task == cell.labels.task
        and _lengths(past.config) == _lengths(cell.config)
        and past.config["runner"].get("batch_size", 1) == cell.runner.group_size
    )


def _same_blocks(past: CellRecord, cell: Cell) -> bool:
    """Whether blocks of the same size were written by the same policy."""
    same_size = past.config["model"].get("block_size") == cell.settings.model.block_size
    return same_size and past.config.get("decoding") == cell.config["decoding"]


def _same_device(past: CellRecord, cell: Cell) -> bool:
    """A device that is not here, of which a job on another machine will tell, is known by its kind alone."""
    device = torch.device(cell.settings.model.device)
    name = device_name(device)
    kind = str(past.config["model"].get("device", "cpu")).partition(":")[0]
    same = kind == device.type if name == str(device) else past.environment.device == name
    return same and past.environment.attention == cell.attention


def _lengths(config: dict[str, Any]) -> list[int]:
    lengths = (config.get("task") or {}).get("lengths", [])
    return sorted(lengths) if isinstance(lengths, list) else [lengths]


def _distance(past: CellRecord, cell: Cell, *, decodes: bool) -> tuple[float, ...]:
    """Return zeros for a cell alike in all that matters, else what differs, the heaviest first."""
    task = float(past.config.get("task") != cell.config.get("task"))
    if not decodes:
        return (task,)
    method, asked = past.config.get("method", {}), cell.config["method"]
    budgets = past.labels.budget, cell.labels.budget
    return (
        float(past.labels.method != cell.labels.method),
        math.inf if (budgets[0] is None) != (budgets[1] is None) else _apart(budgets[0] or 1, budgets[1] or 1),
        float(method != asked),
        task,
    )


def _apart(one: float, other: float) -> float:
    """Return how many times one budget is doubled to be the other; a share and a number have nothing in common."""
    return abs(math.log2(one / other)) if isinstance(one, int) == isinstance(other, int) else math.inf
