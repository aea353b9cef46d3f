"""Whether answers come out right where a selection holds the evidence: recall beside the accuracy of the same cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.comparison import BASELINE
from analysis.contexts import in_order
from analysis.figures.evidence import held_share, on_evidence
from analysis.figures.recall import contexts_told, recall_rows
from analysis.frame import Results
from analysis.statistics import Interval, difference_of_groups
from analysis.table import HOLE, Table, interval_text, ordered, signed

SETTING = ["model", "task", "question", "decoding"]
POINT = [*SETTING, "method", "budget_label"]


def evidence_table(results: Results) -> Table | None:
    """One row for each method and budget that was both run (runner=evaluate) and observed (runner=recall).

    Only examples that dense answers right, where dense was run: others say nothing about a selection. None where
    nothing was both.
    """
    rows = on_evidence(recall_rows(results))
    if rows.empty or results.examples.empty:
        return None
    right = _right(results)
    found = []
    for key, own in rows.groupby(POINT, sort=False):
        place = tuple(map(str, key))
        if (answers := right.get(place)) is None:
            continue
        dense = right.get((*place[: len(SETTING)], BASELINE, ""))
        point: dict[str, Any] = dict(zip(POINT, place, strict=True))
        shares = held_share(own, ["id"])
        ids = [i for i in shares.index if i in answers and (dense is None or dense.get(i) == 1.0)]
        if ids:
            point |= {"budget": own.budget.iloc[0], "budget_unit": own.budget_unit.iloc[0]}
            found.append(point | _row(shares, ids, answers, own))
    return _table(ordered(pd.DataFrame(found))) if found else None


def _right(results: Results) -> dict[tuple[str, ...], dict[str, float]]:
    """By point, then by example id: the share of its answers that are exact."""
    cells = results.cells[(results.cells.status == "done") & (results.cells.runner == "evaluate")]
    joined = results.examples[["cell", "id", "exact"]].join(cells[POINT], on="cell", how="inner")
    return {
        tuple(map(str, key)): {str(example): float(share) for example, share in own.groupby("id").exact.mean().items()}
        for key, own in joined.groupby(POINT)
    }


def _row(shares: pd.Series, ids: list[str], answers: dict[str, float], own: pd.DataFrame) -> dict[str, Any]:
    values = shares[ids].to_numpy(dtype=np.float64)
    right = np.array([answers[i] == 1.0 for i in ids])
    return {
        "n_right": int(right.sum()),
        "n_wrong": int((~right).sum()),
        "right": float(values[right].mean()) if right.any() else None,
        "wrong": float(values[~right].mean()) if not right.all() else None,
        "difference": difference_of_groups(values, right, in_order(ids, contexts_told(own))),
    }


def _table(points: pd.DataFrame) -> Table:
    cells, numbers = [], []
    for row in points.to_dict("records"):
        difference: Interval = row["difference"]
        told = {
            "task": row["task"],
            "decoding": row["decoding"],
            "method": row["method"],
            "budget": row["budget_label"],
        }
        cells.append(
            {
                **told,
                "right": str(row["n_right"]),
                "held where right": _percent(row["right"]),
                "wrong": str(row["n_wrong"]),
                "held where wrong": _percent(row["wrong"]),
                "difference": HOLE
                if np.isnan(difference.mean)
                else f"{signed(difference.mean)} {interval_text(difference.low, difference.high)}".strip(),
            }
        )
        numbers.append({**row, "difference": difference.mean, "low": difference.low, "high": difference.high})
    caption = (
        "Attention on the evidence that the selection holds, in %, over the sparse steps of the dense trajectory, "
        "where the method's own answer is right and where it is wrong, of the examples that dense answers right. "
        "Difference in points with its 95 % bootstrap interval over examples, unpaired."
    )
    return Table("evidence", caption, pd.DataFrame(cells), pd.DataFrame(numbers))


def _percent(share: float | None) -> str:
    return HOLE if share is None or np.isnan(share) else f"{100 * share:.1f}"
