"""Tables of speed: a block under a method beside a dense one, and the steps that it is made of."""

from __future__ import annotations

import pandas as pd

from analysis.conditions import Conditions
from analysis.frame import Results
from analysis.ordering import budget_order, method_order
from analysis.table import HOLE, Table

KEY = ["model", "decoding", "context", "batch"]


def speed_points(results: Results) -> pd.DataFrame:
    """One row a cell of runner=latency, in reading order, with the conditions of its rounds; failed ones, too, with
    what their config says of context and batch."""
    cells = results.cells[results.cells.runner == "latency"]
    if cells.empty:
        return cells
    told = results.latency.set_index("cell") if len(results.latency) else pd.DataFrame()
    shared = [c for c in ("attention", "captured", "dense_reference", "block_size") if c in told]
    points = cells.drop(columns=shared, errors="ignore").join(told[shared])
    runners = [record.config.get("runner", {}) for record in points.record]
    points["context"] = [int(runner.get("context", 0)) for runner in runners]
    points["batch"] = [int(runner.get("batch", 0)) for runner in runners]
    methods, budgets = method_order(points.method), ["", *budget_order(points[points.budget_label != ""])]
    rank = points.assign(m=points.method.map(methods.index), b=points.budget_label.map(budgets.index))
    return rank.sort_values([*KEY, "m", "b", "seed"]).drop(columns=["m", "b"])


def speed_tables(points: pd.DataFrame) -> list[Table]:
    """The table of blocks and the table of steps."""
    conditions = Conditions.of(record.environment for record in points.record)
    ran = f"Device: {', '.join(conditions.devices)}, {' or '.join(map(str, conditions.threads))} threads."
    around = " ".join(filter(None, [ran, _roofs(points), conditions.warning]))
    blocks = (
        "Time of a block, everything counted (exact step, selection, sparse steps, commit), dense and method in "
        "alternation: medians over rounds. Speed-up: dense over method, paired by round, with the 95 % interval of "
        "its median. Bound: what bytes and operations allow at the bandwidth and matrix rate measured beside it; "
        "of bound: the part of it that was reached. Over best: the speed-up over a dense engine with the fastest "
        "attention found, which best dense names. Method dense is timed against itself. Forwards of a block, "
        f"commit included; tokens a second of all rows; peak memory, weights included. {around}"
    )
    steps = (
        "Single forwards, medians over rounds: a dense step; the method's exact step, the selection of a block, a "
        "sparse step (with its selection where a method selects in each), a commit, a dense step without a prefix. "
        "Faster: dense step over sparse step, beside its bound. Over empty: sparse step over the step without a "
        "prefix. First step: exact step and selection over a dense step. Matrix rate: the part of it that the "
        f"prefill reached. {around}"
    )
    return [_table("speed", blocks, points, _block_row), _table("speed-steps", steps, points, _step_row)]


def _roofs(points: pd.DataFrame) -> str:
    if "roof_bytes_per_second" not in points or points.roof_bytes_per_second.isna().all():
        return ""
    bandwidth, rate = (
        _range(points[name].dropna() / unit)
        for name, unit in (("roof_bytes_per_second", 1e9), ("roof_flops_per_second", 1e12))
    )
    return f"Measured beside the cells: {bandwidth} GB/s, {rate} TFLOP/s."


def _range(values: pd.Series) -> str:
    low, high = (f"{value:.4g}" for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _table(name: str, caption: str, points: pd.DataFrame, row: object) -> Table:
    assert callable(row)
    cells = [{**_head(point), **row(point)} for _, point in points.iterrows()]
    return Table(name, caption, pd.DataFrame(cells), points.drop(columns=["record"]))


def _head(point: pd.Series) -> dict[str, str]:
    return {
        "model": point.model,
        "decoding": point.decoding,
        "context": f"{point.context}",
        "batch": f"{point.batch}",
        "method": point.method,
        "budget": point.budget_label or HOLE,
    }


def _block_row(point: pd.Series) -> dict[str, str]:
    if point.status != "done":
        return {"dense ms": point.status.replace("_", " ")} | dict.fromkeys(BLOCK_COLUMNS[1:], HOLE)
    interval = ""
    if not pd.isna(point.get("speedup_low")):
        interval = f" [{point.speedup_low:.2f}, {point.speedup_high:.2f}]"
    values = [
        _shown(point, "dense_block_seconds", ".4g", 1e3),
        _shown(point, "block_seconds", ".4g", 1e3),
        f"{point.speedup:.2f}{interval}",
        _shown(point, "bound_speedup", ".2f"),
        _shown(point, "bound_share", ".0f", 100, " %"),
        _shown(point, "speedup_over_best", ".2f"),
        str(point.dense_reference),
        str(point.attention) + (", graphs" if point.captured else ""),
        _shown(point, "forwards_per_block", ".4g"),
        _shown(point, "tokens_per_second", ".4g"),
        _shown(point, "peak_memory_bytes", ".2f", 1e-9, " GB"),
    ]
    return dict(zip(BLOCK_COLUMNS, values, strict=True))


BLOCK_COLUMNS = (
    *("dense ms", "ms", "speed-up", "bound", "of bound", "over best", "best dense"),
    *("attention", "forwards", "tok/s", "memory"),
)


def _step_row(point: pd.Series) -> dict[str, str]:
    def milliseconds(name: str) -> str:
        return _shown(point, name, ".4g", 1e3)

    return {
        "dense ms": milliseconds("dense_step_seconds"),
        "exact ms": milliseconds("exact_step_seconds"),
        "selection ms": milliseconds("selection_seconds_per_block"),
        "sparse ms": milliseconds("sparse_step_seconds"),
        "commit ms": milliseconds("commit_seconds"),
        "empty ms": milliseconds("empty_step_seconds"),
        "faster": _shown(point, "sparse_step_speedup", ".2f"),
        "bound": _shown(point, "sparse_step_bound", ".2f"),
        "over empty": _shown(point, "sparse_step_over_empty", ".2f"),
        "first step": _shown(point, "first_step_over_dense", ".2f"),
        "density": _shown(point, "density", ".1f", 100, " %"),
        "prefill s": _shown(point, "prefill_seconds", ".4g"),
        "matrix rate": _shown(point, "prefill_rate_share", ".0f", 100, " %"),
    }


def _shown(point: pd.Series, field: str, style: str, factor: float = 1.0, unit: str = "") -> str:
    value = point.get(field)
    return HOLE if point.status != "done" or value is None or pd.isna(value) else f"{factor * value:{style}}{unit}"
