"""Sample predictions: what a method really wrote, beside what was asked for."""

from __future__ import annotations

import pandas as pd

from analysis.comparison import BASELINE, SETTING
from analysis.escaping import visible
from analysis.frame import Results
from analysis.measure import Measure, measure_of
from analysis.ordering import budget_order, method_order
from analysis.table import HOLE, Table

LENGTH = 100


def samples_table(results: Results, chosen: Measure | None = None) -> Table:
    """One example for each setting and method at its smallest budget.

    It is the first that dense answers better than the method does, by the `chosen` measure or that of the task, and
    where there is none the first example.
    """
    done = results.cells[(results.cells.status == "done") & (results.cells.runner == "evaluate")]
    rows: list[dict[str, str]] = []
    for _, setting in done.groupby(SETTING):
        measure = measure_of(setting, chosen)
        dense = _rows(results, setting[setting.method == BASELINE])
        reached = dict(zip(dense.id, dense[measure].astype(float), strict=True))
        for method in method_order(setting.method):
            own = setting[setting.method == method]
            smallest = budget_order(own)[0]
            examples = _rows(results, own[own.budget_label == smallest])
            if examples.empty:
                continue
            lost = examples[examples[measure].astype(float) < examples.id.map(reached).astype(float)]
            example = (examples if lost.empty else lost).iloc[0]
            rows.append(
                {
                    **{label: str(own[label].iloc[0]) for label in SETTING},
                    "method": method,
                    "budget": smallest or HOLE,
                    "example": visible(example.id, LENGTH),
                    "reference": visible(" | ".join(example.references), LENGTH),
                    "prediction": visible(example.prediction, LENGTH) or "(empty)",
                    "exact": "yes" if example.exact else "no",
                    "score": f"{100 * example.score:.1f}",
                }
            )
    caption = (
        "At the smallest budget of each method: the first example that dense answers better than the method does, "
        "else the first."
    )
    frame = pd.DataFrame(rows)
    alike = [label for label in SETTING if label != "task" and len(frame) and frame[label].nunique() == 1]
    return Table("samples", caption, frame.drop(columns=alike), frame)


def _rows(results: Results, cells: pd.DataFrame) -> pd.DataFrame:
    return results.examples[results.examples.cell.isin(cells.index)]
