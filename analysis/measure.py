"""What accuracy is: exact match, or the score that a benchmark defines."""

from __future__ import annotations

from typing import Literal

import pandas as pd

from tasks.key_needles import KeyNeedles
from tasks.task import Task

Measure = Literal["exact", "score"]
EXACT_METRICS = frozenset({Task.metric, KeyNeedles.metric})
"""What the retrieval tasks made here score, whose accuracy is exact match. All others name a benchmark's own score."""


def measure_of(points: pd.DataFrame, chosen: Measure | None) -> Measure:
    """`chosen`, or else what the tasks of `points` (column `metric`) are judged by."""
    if chosen is not None:
        return chosen
    return "exact" if EXACT_METRICS.issuperset(points.metric) else "score"


def measure_name(points: pd.DataFrame, chosen: Measure | None) -> str:
    """The measure as captions and axes name it: `exact match`, `F1`, or `score` where tasks differ."""
    if measure_of(points, chosen) == "exact":
        return "exact match"
    metrics = set(points.metric)
    named = metrics.pop() if len(metrics) == 1 else "score"
    return "score" if named in EXACT_METRICS else named
