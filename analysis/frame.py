"""Records of one or more experiments as pandas frames. What does not validate is refused by name of file and field."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.duplicates import note, superseded
from analysis.kernel_frame import read_kernels
from analysis.marks import mark_tasks
from analysis.validation import validated
from analysis.variants import name_variants
from mage.budget import Budget
from mage.errors import UserError
from runners.kernel_record import KernelRecord
from runners.latency_result import LatencyResult
from runners.record import EXAMPLES_NAME, RECORD_NAME, CellLabels, CellRecord, Environment, ExampleResult, RecallResult
from runners.store.place import difference
from runners.store.rows import ROWS, Row
from runners.store.store import DamagedError, read_record

COLUMNS = [*CellLabels.model_fields, "random", "status", "record"]  # that are there even where there is no cell


@dataclass(frozen=True)
class Results:
    """Everything that was read.

    `cells` has one row a record: labels (the task's with its marks, see `analysis.marks`), status, metrics, and the
    record itself as `record`; its index is the cell's number. `examples` has one row an answered example
    (runner=evaluate), `recall` one row for each example, block, step and layer (runner=recall), `latency` one row a
    cell (runner=latency): the conditions that its rounds share. All name their cell's number in the column `cell`.
    `unfinished` are folders that hold no record.json: cells in flight, or killed. `notes` are lines for the reader
    about what was left out. `kernels` are the records of timed kernels by their files; they are no cells.
    """

    cells: pd.DataFrame
    examples: pd.DataFrame
    recall: pd.DataFrame
    latency: pd.DataFrame
    unfinished: tuple[str, ...]
    notes: tuple[str, ...] = ()
    kernels: Mapping[Path, KernelRecord] = field(default_factory=dict)

    @property
    def environments(self) -> list[Environment]:
        """Of all cells and records of kernels."""
        return [record.environment for record in (*self.cells.record, *self.kernels.values())]


def load(folders: Sequence[Path], *, kernels: bool = False) -> Results:
    """Reads and validates all cells of the experiments in `folders`. Raises UserError.

    Where a cell was computed again with more examples, the larger one is kept and a note says so. kernels: read the
    records of kernels, too; where there are some there need be no cell.
    """
    cells: list[dict[str, Any]] = []
    examples: list[dict[str, Any]] = []
    recall: list[dict[str, Any]] = []
    latency: list[dict[str, Any]] = []
    unfinished: list[str] = []
    owner: dict[str, Path] = {}
    ids: dict[int, list[str]] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder of results")
        for cell in sorted(p for p in folder.iterdir() if p.is_dir()):
            if not (cell / "record.json").exists():
                if (cell / "examples.jsonl").exists():
                    unfinished.append(cell.name)
                continue
            try:
                record, rows = read_cell(cell)
            except UserError as error:
                told = f"python -m runners.store check {shlex.join(map(str, folders))}"
                raise UserError(f"{error}. This names all that is damaged, and what to do: {told}") from error
            if record.identity in owner:
                raise UserError(f"the same cell stands in {owner[record.identity]} and in {cell}: pass one of them")
            owner[record.identity] = cell
            number = len(cells)
            cells.append(_cell_row(record, cell))
            ids[number] = [row.id for row in rows]
            if rows and isinstance(rows[0], LatencyResult):
                conditions = rows[0].conditions
                latency.append({"cell": number, **vars(conditions), "dense_reference": conditions.dense_reference})
            for row in rows:
                if isinstance(row, RecallResult):
                    recall += [{"cell": number, **row.model_dump(exclude={"rows"}), **vars(r)} for r in row.rows]
                elif not isinstance(row, LatencyResult):
                    examples.append({"cell": number, **dict(row)})
    timed = read_kernels(folders) if kernels else {}
    if not cells and not timed:
        raise UserError(f"no record.json in any folder below {', '.join(map(str, folders))}")
    named = mark_tasks(name_variants(pd.DataFrame(cells))) if cells else pd.DataFrame(columns=COLUMNS)
    left_out = superseded(named, ids) if cells else {}
    return Results(
        named.drop(index=list(left_out)),
        pd.DataFrame([r for r in examples if r["cell"] not in left_out], columns=["cell", *ExampleResult.model_fields]),
        pd.DataFrame([r for r in recall if r["cell"] not in left_out]),
        pd.DataFrame([r for r in latency if r["cell"] not in left_out]),
        tuple(unfinished),
        (note(named, left_out),) if left_out else (),
        timed,
    )


def read_cell(folder: Path) -> tuple[CellRecord, list[Row]]:
    """The record in `folder` and the rows of its examples file, whose count and checksum must agree.

    Raises UserError with the names of the file and the field that are wrong.
    """
    path, file = folder / RECORD_NAME, folder / EXAMPLES_NAME
    record = validated(CellRecord, path.read_bytes(), str(path))
    try:
        read_record(folder)
    except DamagedError as damage:
        raise UserError(f"{folder / damage.name}: {damage}") from damage
    if differs := difference(folder, record):
        raise UserError(differs)
    if record.examples is None or record.labels.runner not in ROWS:
        return record, []
    kind = ROWS[record.labels.runner]
    with file.open("rb") as lines:
        rows = [validated(kind, line, f"{file}, line {number}") for number, line in enumerate(lines, start=1)]
    _check_unique((row.id for row in rows), file)
    return record, rows


def _check_unique(ids: Iterable[str], file: Path) -> None:
    seen: set[str] = set()
    for example in ids:
        if example in seen:
            raise UserError(f"{file}: field id: {example!r} stands there twice")
        seen.add(example)


def _cell_row(record: CellRecord, folder: Path) -> dict[str, Any]:
    method, decoding, model = (record.config.get(section) for section in ("method", "decoding", "model"))
    return {
        **record.metrics,
        **dict(record.labels),
        "budget": math.nan if record.labels.budget is None else float(record.labels.budget),
        "budget_unit": budget_unit(record.labels.budget),
        "budget_label": budget_label(record.labels.budget),
        "dense_layers": method.get("dense_layers") if isinstance(method, dict) else None,
        "query_aware": method.get("query_aware") if isinstance(method, dict) else None,
        "block_size": model.get("block_size") if isinstance(model, dict) else None,
        "decoding_options": _options(decoding) if isinstance(decoding, dict) else "",
        "status": record.status,
        "error": record.error,
        "folder": str(folder),
        "record": record,
    }


def _options(part: dict[str, Any]) -> str:
    shown = {key: value for key, value in part.items() if key not in {"_target_", "name"} and value is not None}
    return ", ".join(f"{key}={value}" for key, value in shown.items())


def budget_unit(budget: float | None) -> str:
    """`tokens` for an integer, `share` of the prefix for a float, nothing for none."""
    if budget is None:
        return ""
    return "share" if isinstance(budget, float) else "tokens"


def budget_label(budget: float | None) -> str:
    """A budget as a column head: `64` tokens, `5%` of the prefix, nothing for none."""
    return "" if budget is None else Budget(budget).label
