"""Whether answers come out right where a selection holds the evidence: recall beside the accuracy of the same point."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.comparison import BASELINE, POINT, SETTING, Comparison
from analysis.contexts import in_order
from analysis.figures.evidence import held_share, on_evidence
from analysis.figures.recall import contexts_told
from analysis.pooling import by_example
from analysis.statistics import difference_of_groups
from analysis.table import HOLE, Table, interval_text, ordered, place, signed


def evidence_table(rows: pd.DataFrame, comparison: Comparison) -> Table | None:
    """One row for each method and budget that was both answered (`comparison`) and observed (`rows` of recall).

    Only examples that dense answers right, others say nothing about a selection, and of several seeds those that come
    out alike under all. None where nothing was both, or dense was not run.
    """
    found = []
    for key, own in on_evidence(rows).groupby(POINT, sort=False):
        at = tuple(map(str, key))
        ours, dense = (comparison.values.get(p) for p in (at, (*at[: len(SETTING)], BASELINE, "")))
        if ours is None or dense is None:
            continue
        answers, known = by_example(ours["exact"]), by_example(dense["exact"])
        shares = held_share(own, ["id"])
        ids = [i for i in shares.index if answers.get(i) in (0.0, 1.0) and known.get(i) == 1.0]
        if ids:
            values, right = shares[ids].to_numpy(dtype=np.float64), np.array([answers[i] == 1.0 for i in ids])
            point: dict[str, Any] = dict(zip(POINT, at, strict=True))
            point |= {"budget": own.budget.iloc[0], "budget_unit": own.budget_unit.iloc[0]}
            found.append(point | _compared(values, right, in_order(ids, contexts_told(own))))
    if not found:
        return None
    points = ordered(pd.DataFrame(found))
    caption = (
        "Of the attention on the evidence, what the selection holds, in %, over the sparse steps of the dense "
        "trajectory: where the method's own answer is right and where it is wrong, of the examples that dense answers "
        "right, all lengths together. Difference in points with its 95 % bootstrap interval, unpaired, over examples, "
        "or over contexts where these are shared. That the two go together does not make one the cause."
    )
    return Table("evidence", caption, pd.DataFrame([_cells(point) for _, point in points.iterrows()]), points)


def _compared(values: np.ndarray, right: np.ndarray, contexts: list[str] | None) -> dict[str, Any]:
    difference = difference_of_groups(values, right, contexts)
    return {
        "n_right": int(right.sum()),
        "n_wrong": int((~right).sum()),
        "right": float(values[right].mean()) if right.any() else np.nan,
        "wrong": float(values[~right].mean()) if not right.all() else np.nan,
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
    }


def _cells(point: pd.Series) -> dict[str, str]:
    interval = interval_text(point.low, point.high)
    return {
        **place(point),
        "right": str(point.n_right),
        "held where right": _percent(point.right),
        "wrong": str(point.n_wrong),
        "held where wrong": _percent(point.wrong),
        "difference": HOLE if np.isnan(point.difference) else f"{signed(point.difference)} {interval}".rstrip(),
    }


def _percent(share: float) -> str:
    return HOLE if np.isnan(share) else f"{100 * share:.1f}"
