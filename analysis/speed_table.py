"""Tables of speed: a block under a method beside a dense one, and the steps that it is made of."""

from __future__ import annotations

import math

import pandas as pd

from analysis.caption import span
from analysis.conditions import Conditions
from analysis.frame import Results
from analysis.ordering import budget_order, method_order
from analysis.table import HOLE, Table
from mage.timing.spread import median_interval

KEY = ["model", "decoding", "context", "batch"]
TOLD = (  # by the conditions of rounds
    *("attention", "captured", "dense_captured", "dense_reference", "dense_absent", "block_size"),
)


def speed_points(results: Results) -> pd.DataFrame:
    """One row a cell of runner=latency, in reading order, with the conditions of its rounds; failed ones, too, with
    what their config says of context and batch."""
    cells = results.cells[results.cells.runner == "latency"]
    if cells.empty:
        return cells
    told = results.latency.set_index("cell") if len(results.latency) else pd.DataFrame()
    shared = [c for c in TOLD if c in told]
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
        f"its median{extremes(points)}; it need not be the ratio of the medians beside it. Milliseconds of different "
        "rows are of different times and are not to be compared. Bound: what bytes and operations allow at the "
        "bandwidth and matrix rate measured beside it. Over best: the speed-up over a dense engine with the fastest "
        "attention found, which best dense names"
        f"{_absent(points)}. Of roof: the least seconds of a block over those it took, of dense and of the method each "
        "by itself. Method dense is timed against itself. Forwards of a block, commit included, as dense / method "
        "where they differ: then the speed-up is of other decisions too, and the single steps tell what is faster"
        f"{_commits(points)}; tokens a second of all "
        f"rows; peak memory, weights included.{_fused(points)}{_warm_up(points)} {around}"
    )
    steps = (
        "Single forwards, medians over rounds: a dense step; the method's exact step, the selection of a block, a "
        "sparse step (with its selection where a method selects in each), a commit, and empty, a dense step "
        f"{_entries(points)}{_both(points)}. A selection inside a captured forward, or beside one, has no time of its "
        "own. Faster: dense step over sparse step, beside its bound. Over empty: sparse step over the empty one. First "
        "step: exact step and selection over a dense step. Prefill: of the rows that were computed; where they are "
        "fewer than the batch, as named, the others hold copies. Matrix rate: the part of it that the prefill reached. "
        f"{around}"
    )
    return [_table("speed", blocks, points, _block_row), _table("speed-steps", steps, points, _step_row)]


def extremes(points: pd.DataFrame) -> str:
    """Says of how many rounds that interval is all that was found, from the smallest ratio to the largest."""
    found = points.get("rounds", pd.Series(dtype=float)).dropna().astype(int)
    counts = sorted({n for n in found if median_interval(range(n)) == (0, n - 1)})
    return f" (of {' or '.join(map(str, counts))} rounds: from the smallest to the largest ratio)" if counts else ""


def _absent(points: pd.DataFrame) -> str:
    """Implementations that were not timed, each with its first reason."""
    reasons: dict[str, str] = {}
    for absent in points.get("dense_absent", pd.Series(dtype=object)):
        reasons = (absent if isinstance(absent, dict) else {}) | reasons
    listed = "; ".join(f"{name}: {reason}" for name, reason in sorted(reasons.items()))
    return f" (not timed everywhere: {listed})" if listed else ""


def _any_fused(points: pd.DataFrame) -> bool:
    names = [f"{side}fused_forwards_per_block" for side in ("dense_", "")]
    return any((points[name] > 0).any() for name in names if name in points)


def _commits(points: pd.DataFrame) -> str:
    told = ", unless they are so many + commits: these alone are what one side fused and the other did not"
    return told if _any_fused(points) else ""


def _both(points: pd.DataFrame) -> str:
    told = "; exact + commit, the first step of a block and the commit of the one before in one forward"
    return told if _any_fused(points) else ""


def _fused(points: pd.DataFrame) -> str:
    """What all cells share; where they differ, their names tell."""
    asked = [record.config.get("fuse_commit", False) for record in points.record]
    every = " All with fuse_commit=true: a block holds the commit of the one before where that could be fused."
    return every if all(asked) else ""


def _warm_up(points: pd.DataFrame) -> str:
    if "warm_blocks" not in points or not (points.warm_blocks > 0).any():
        return ""
    return (
        f" The first {span(points.warm_blocks[points.warm_blocks > 0])} blocks of each generation, in which its "
        "forwards are recorded as graphs, do not count: each generation pays for them anew, dense and method; what "
        "they took together is the warm-up in the table of steps. Captured on the clock: recordings slowed blocks that "
        "count."
    )


def _entries(points: pd.DataFrame) -> str:
    known = points.get("empty_step_entries", pd.Series(dtype=float)).dropna()
    return f"on {span(known)} entries, those of the blocks that warm up" if (known > 0).any() else "without a prefix"


def _roofs(points: pd.DataFrame) -> str:
    if "roof_bytes_per_second" not in points or points.roof_bytes_per_second.isna().all():
        return ""
    bandwidth, rate = (
        span(points[name].dropna() / unit)
        for name, unit in (("roof_bytes_per_second", 1e9), ("roof_flops_per_second", 1e12))
    )
    return f"Measured beside the cells: {bandwidth} GB/s, {rate} TFLOP/s."


FUSED = ("dense exact + commit ms", "exact + commit ms")
WARM_UP = ("dense warm-up ms", "warm-up ms")


def _table(name: str, caption: str, points: pd.DataFrame, row: object) -> Table:
    assert callable(row)
    cells = pd.DataFrame([{**_head(point), **row(point)} for _, point in points.iterrows()])
    unused = [column for column in (*FUSED, *WARM_UP) if column in cells and (cells[column] == HOLE).all()]
    return Table(name, caption, cells.drop(columns=unused), points.drop(columns=["record"]))


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
        _shown(point, "speedup_over_best", ".2f"),
        HOLE if pd.isna(point.dense_reference) else point.dense_reference,
        _shown(point, "dense_roof_share", ".0f", 100, " %"),
        _shown(point, "roof_share", ".0f", 100, " %"),
        str(point.attention) + GRAPHS[bool(point.dense_captured), bool(point.captured)] + _captures(point),
        _forwards(point),
        _shown(point, "tokens_per_second", ".4g"),
        _shown(point, "peak_memory_bytes", ".2f", 1e-9, " GB"),
    ]
    return dict(zip(BLOCK_COLUMNS, values, strict=True))


def _forwards(point: pd.Series) -> str:
    """Forwards of a block; of dense and of the method where they differ. Where a side fused commits and the rest is
    equal, the commits of each stand apart."""
    dense, own = (_shown(point, f"{side}forwards_per_block", ".4g") for side in ("dense_", ""))
    if dense == own:
        return own
    commits = [point.get(f"{side}commit_forwards_per_block", 0.0) for side in ("dense_", "")]
    counts = [point.get(f"{side}forwards_per_block", math.nan) for side in ("dense_", "")]
    steps = [f"{count - commit:.4g}" for count, commit in zip(counts, commits, strict=True)]
    fused = any(point.get(f"{side}fused_forwards_per_block", 0.0) > 0 for side in ("dense_", ""))
    if not fused or steps[0] != steps[1]:
        return f"{dense} / {own}"
    ways = [s + (f" + {commit:.4g}" if commit else "") for s, commit in zip(steps, commits, strict=True)]
    return " / ".join(ways)


BLOCK_COLUMNS = (
    *("dense ms", "ms", "speed-up", "bound", "over best", "best dense", "dense of roof", "of roof"),
    *("attention", "forwards", "tok/s", "memory"),
)


GRAPHS = {  # dense, method
    (True, True): ", graphs",
    (True, False): ", graphs for dense alone",
    (False, True): ", graphs without dense",
    (False, False): "",
}


def _captures(point: pd.Series) -> str:
    """A mark where blocks that count were slowed by recording."""
    return ", captured on the clock" if point.get("captures", 0) > 0 or point.get("dense_captures", 0) > 0 else ""


def _step_row(point: pd.Series) -> dict[str, str]:
    def milliseconds(name: str) -> str:
        return _shown(point, name, ".4g", 1e3)

    return {
        "dense ms": milliseconds("dense_step_seconds"),
        "exact ms": milliseconds("exact_step_seconds"),
        "selection ms": milliseconds("selection_seconds_per_block"),
        "sparse ms": milliseconds("sparse_step_seconds"),
        "commit ms": milliseconds("commit_seconds"),
        FUSED[0]: milliseconds("dense_fused_forward_seconds"),
        FUSED[1]: milliseconds("fused_forward_seconds"),
        "empty ms": milliseconds("empty_step_seconds"),
        "faster": _shown(point, "sparse_step_speedup", ".2f"),
        "bound": _shown(point, "sparse_step_bound", ".2f"),
        "over empty": _shown(point, "sparse_step_over_empty", ".2f"),
        "first step": _shown(point, "first_step_over_dense", ".2f"),
        "density": _shown(point, "density", ".1f", 100, " %"),
        "prefill s": _shown(point, "prefill_seconds", ".4g") + _rows(point),
        "matrix rate": _shown(point, "prefill_rate_share", ".0f", 100, " %"),
        WARM_UP[0]: milliseconds("dense_warm_up_seconds"),
        WARM_UP[1]: milliseconds("warm_up_seconds"),
    }


def _rows(point: pd.Series) -> str:
    rows = point.get("prefill_rows")
    return f" ({rows:g} of {point.batch} rows)" if rows is not None and rows < point.batch else ""


def _shown(point: pd.Series, field: str, style: str, factor: float = 1.0, unit: str = "") -> str:
    value = point.get(field)
    return HOLE if point.status != "done" or value is None or pd.isna(value) else f"{factor * value:{style}}{unit}"
