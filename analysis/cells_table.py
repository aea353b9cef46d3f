"""One row a cell with everything: scores, cost, forwards and seconds."""

from __future__ import annotations

import math

import pandas as pd

from analysis.caption import closing
from analysis.comparison import Comparison
from analysis.measure import EXACT_METRICS, Measure
from analysis.table import HOLE, Table, interval_text, ordered, place, signed

FUSED = ("fused fwd", "fused s")
NO_SPEED = (
    "They are no measurement of speed, which runner=latency is: they are those of the machine as it was when a cell "
    "ran, may be beside other work, and a prefill may be shared by several cells."
)
SECONDS = ("prefill", "exact", "fused", "selection", "sparse", "commit")


def cells_table(comparison: Comparison, chosen: Measure | None = None) -> Table:
    """One row a point, with cost beside accuracy. The difference is of the `chosen` measure, or else of the task's."""
    points = ordered(comparison.points)
    any_fused = "fused_forwards_per_block" in points and (points.fused_forwards_per_block > 0).any()
    fused = ", fused: an exact step that is the commit of the block before, too" if any_fused else ""
    alike = " (under fuse_commit=true in one that fuses commits)" if any_fused else ""
    seconds = f" {comparison.conditions.sentences} {NO_SPEED}" if comparison.values else ""
    caption = (
        "Every cell. Exact match and score in %, and what the score is (metric); difference to dense of "
        f"{_named(chosen)} with its paired 95 % interval in points; p of McNemar's exact test on exact match; density: "
        f"KV entries read over those of a dense run{alike}, in %; sparse tokens: share of tokens decided in sparse "
        "steps, in % (sparse-token share counts the stop token); sparse blocks: share of blocks that ran any, in %; "
        f"forwards per block{fused}; mean seconds an example; generated tokens a second up to the stop token. {HOLE} "
        f"no result.{seconds}{closing(points)}"
    )
    cells = pd.DataFrame([_cells_row(p, chosen) for _, p in points.iterrows()])
    return Table("cells", caption, cells if fused else cells.drop(columns=list(FUSED)), points)


def _named(chosen: Measure | None) -> str:
    return {"exact": "exact match", "score": "the score"}.get(
        chosen or "", "the score, or of exact match where an answer is right or wrong as a whole"
    )


def _cells_row(point: pd.Series, chosen: Measure | None) -> dict[str, str]:
    done = point.status == "done"
    measure = chosen or ("exact" if point.metric in EXACT_METRICS else "score")

    def show(field: str, style: str, factor: float = 1.0) -> str:
        value = point.get(field, math.nan)
        return HOLE if not done or pd.isna(value) else format(factor * value, style)

    difference = HOLE
    if done and not pd.isna(point.get(f"{measure}_difference")):
        interval = interval_text(point[f"{measure}_difference_low"], point[f"{measure}_difference_high"])
        difference = f"{signed(point[f'{measure}_difference'])} {interval}".rstrip()
    return {
        **place(point),
        "status": point.status.replace("_", " "),
        "n": show("n", ".0f"),
        "exact": show("exact", ".1f", 100),
        "score": show("score", ".1f", 100),
        "metric": point.metric,
        "difference": difference,
        "p": "< 0.001" if done and point.get("mcnemar_p", 1.0) < 1e-3 else show("mcnemar_p", ".3f"),
        "density": show("density", ".1f", 100),
        "sparse tokens": show("sparse_token_share", ".0f", 100),
        "sparse blocks": show("sparse_block_share", ".0f", 100),
        **{f"{k} fwd": show(f"{k}_forwards_per_block", ".2f") for k in ("exact", "fused", "sparse", "commit")},
        **{f"{k} s": show(f"seconds_{k}", ".3f") for k in SECONDS},
        "tok/s": show("tokens_per_second", ".1f"),
    }
