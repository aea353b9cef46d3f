"""Accuracy by method and budget: one table for each model, task and decoding."""

from __future__ import annotations

import math

import pandas as pd

from analysis.caption import closing, counted, decoding_of, example_counts, where
from analysis.comparison import Key
from analysis.measure import Measure, measure_name, measure_of
from analysis.ordering import budget_order, method_order
from analysis.table import HOLE, MARK, Table, interval_text, ordered

LEVEL = 0.05


def accuracy_table(name: str, setting: Key, points: pd.DataFrame, chosen: Measure | None = None) -> Table:
    """Rows are methods, columns budgets.

    A cell is the `chosen` measure, or else that of the task, in per cent, with the paired interval of its difference to
    dense in points.
    """
    score = measure_of(points, chosen)
    measured = points[points.budget_label != ""]
    budgets = budget_order(measured)
    rows: list[dict[str, str]] = []
    for method in method_order(points.method):
        own = points[points.method == method]
        texts = {str(point.budget_label): _accuracy(point, score) for _, point in own.iterrows()}
        if "" in texts:  # no budget: the same number stands under all
            texts = dict.fromkeys(budgets or ["accuracy"], texts[""])
        rows.append({"method": method, **{b: texts.get(b, HOLE) for b in budgets or texts}})
    columns = [
        "method",
        "budget",
        "status",
        "n",
        *_with_interval(score),
        *_with_interval(f"{score}_difference"),
        "mcnemar_p",
    ]
    caption = accuracy_caption(setting, points, score)
    return Table(name, caption, pd.DataFrame(rows), ordered(points).reindex(columns=columns))


def accuracy_caption(setting: Key, points: pd.DataFrame, score: Measure) -> str:
    """What the table holds, and how it was measured."""
    model, task, _, question = setting
    named = points.dropna(subset=["dense_layers"]).groupby("dense_layers").method.unique()
    layers = "; ".join(f"{layers:g} in {', '.join(method_order(methods))}" for layers, methods in named.items())
    what = measure_name(points, score)
    mark = f"p < {LEVEL} in McNemar's exact test" if score == "exact" else "the interval excludes zero"
    return (
        f"{task}, model {model}, by KV budget in tokens or in % of the prefix: {what} in %, in brackets the 95 % "
        f"interval of the paired difference to dense in points; {MARK} {mark}; {HOLE} no result. "
        f"{counted(points)} a cell, decoding {decoding_of(points)}, question {where(question)}, dense layers: "
        f"{layers or 'not recorded'}.{_pairing(example_counts(points))}{closing(points)}"
    )


def _pairing(sizes: list[int]) -> str:
    if len(sizes) < 2:
        return ""
    return " Where dense answered more examples than a cell, or fewer, the difference is over those of both."


def _accuracy(point: pd.Series, score: str) -> str:
    if point.status != "done":
        return f"{HOLE} ({point.status.replace('_', ' ')})"
    mean = f"{100 * point[score]:.1f}"
    if math.isnan(point.get(f"{score}_difference", math.nan)):
        return mean
    low, high = point[f"{score}_difference_low"], point[f"{score}_difference_high"]
    interval = interval_text(low, high)
    # With few discordant pairs the bootstrap excludes zero too readily; for a binary score the exact test decides.
    marked = point.mcnemar_p < LEVEL if score == "exact" else low > 0 or high < 0
    return f"{mean}{' ' if interval else ''}{interval}{MARK if marked else ''}"


def _with_interval(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]
