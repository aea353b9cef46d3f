"""From the configs of a sweep to its cells: each once, with dense references, in an order that shares work."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from omegaconf import OmegaConf

from baselines.dense import Dense
from runners.cell import Cell, read_cell
from runners.feasibility import check_feasible, check_machine
from runners.identity import identity_of
from runners.settings import ROOT, read_settings


@dataclass(frozen=True)
class SweepPlan:
    """`cells` to compute or skip; `repeated`: what configs asked for again; `added`: references nobody named."""

    cells: list[Cell]
    repeated: list[Cell]
    added: list[Cell]


def plan_sweep(configs: Sequence[Mapping[str, Any]], *, here: bool = True) -> SweepPlan:
    """Validate every config and drop repetitions. Raises `UserError` for the first config that cannot work.

    here: whether the cells are computed on this machine, which must then have their device.

    Cells that share weights, then prefilled prompts, then a model stand together, so that weights are loaded and a
    prompt is prefilled once. Among them a dense reference comes first.
    """
    cells: dict[tuple[str, str], Cell] = {}
    repeated = []
    for config in configs:
        check_machine(read_settings(config)[0].model, here=here)
    for config in configs:
        cell = read_cell(config)
        check_feasible(cell)
        if cells.setdefault((cell.settings.name, cell.identity), cell) is not cell:
            repeated.append(cell)
    named = list(cells.values())
    added = _missing_references(named, set(cells))
    first: dict[Any, int] = {}
    for cell in named:
        for key in _sharing_keys(cell):
            first.setdefault(key, len(first))
    ordered = sorted(
        [*added, *named],
        key=lambda cell: (*(first[key] for key in _sharing_keys(cell)), not is_dense(cell)),
    )
    return SweepPlan(ordered, repeated, added)


def _sharing_keys(cell: Cell) -> tuple[Hashable, ...]:
    """What cells may have in common, the dearest first."""
    return cell.weights_key, cell.prefix_key, cell.model_key, cell.prompts_key


def is_dense(cell: Cell) -> bool:
    """Whether the cell is a dense reference."""
    return isinstance(cell.method, Dense)


def _missing_references(named: Sequence[Cell], known: set[tuple[str, str]]) -> list[Cell]:
    """Return the dense cells that differ from a named one in nothing but the method, and that nobody named.

    They are told by the identity they have: whatever can change a result has a reference of its own.
    """
    added = []
    for cell in named:
        if cell.settings.dense_reference and cell.runner.needs_reference and not is_dense(cell):
            config = {**cell.config, "method": _dense_method()}
            hashes = {"model_hash": cell.checkpoint.content_hash, "task_hash": cell.task_hash}
            key = (
                cell.settings.name,
                identity_of(config, **hashes, uses_budget=Dense.uses_budget, attention=cell.attention),
            )
            if key not in known:
                known.add(key)
                added.append(read_cell({**cell.given, "method": _dense_method()}))
    return added


@lru_cache
def _dense_method() -> Any:
    """The choice method=dense, as a config that names it holds it."""
    return OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "method" / "dense.yaml"))
