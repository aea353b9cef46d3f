"""From the configs of a sweep to its cells: each once, with dense references, in an order that shares work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runners.cell import Cell, read_cell

DENSE_METHOD = {"name": "dense", "_target_": "baselines.dense.Dense"}


@dataclass(frozen=True)
class SweepPlan:
    """`cells` to compute or skip; `repeated`: configs that asked for a cell again; `added`: references nobody named."""

    cells: list[Cell]
    repeated: int
    added: list[Cell]


def plan_sweep(configs: Sequence[Mapping[str, Any]]) -> SweepPlan:
    """Validate every config and drop repetitions. Raises `UserError` for the first config that cannot work.

    Cells that share a model, and then prompts, stand together, so that a model is loaded and a prompt prefilled once.
    Among them a dense reference comes first.
    """
    cells: dict[tuple[str, str], Cell] = {}
    for config in configs:
        cell = read_cell(config)
        cells.setdefault((cell.settings.name, cell.identity), cell)
    named = list(cells.values())
    referenced = {_reference_key(cell) for cell in named if is_dense(cell)}
    added = []
    for cell in named:
        wants = cell.settings.dense_reference and cell.runner.needs_reference
        if wants and _reference_key(cell) not in referenced:
            referenced.add(_reference_key(cell))
            added.append(read_cell({**cell.config, "method": DENSE_METHOD}))
    first: dict[Any, int] = {}
    for cell in named:
        for key in (cell.model_hash, cell.prompts_key):
            first.setdefault(key, len(first))
    ordered = sorted(
        [*added, *named],
        key=lambda cell: (first[cell.model_hash], first[cell.prompts_key], not is_dense(cell)),
    )
    return SweepPlan(ordered, len(configs) - len(named), added)


def is_dense(cell: Cell) -> bool:
    """Whether the cell is a dense reference."""
    return bool(cell.config["method"]["_target_"] == DENSE_METHOD["_target_"])


def _reference_key(cell: Cell) -> tuple[Any, ...]:
    """Cells with the same key are compared with the same dense cell."""
    labels = cell.labels
    device = (cell.settings.model.device, cell.settings.model.dtype)
    return *cell.prompts_key, cell.settings.name, labels.model, labels.decoding, str(cell.decoding), *device
