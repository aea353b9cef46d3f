"""Ways of writing by the length of the context: an average over lengths hides that a way fails on the longest."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparison import SETTING, Comparison
from analysis.contexts import contexts_of
from analysis.contexts import in_order as contexts_in_order
from analysis.marks import warnings
from analysis.measure import Measure, measure_of
from analysis.pooling import by_example
from analysis.statistics import bootstrap_interval
from analysis.table import HOLE, Table
from analysis.writing_table import in_order, key_of, way, without_model, written_in_ways

ENOUGH = 20
"""Examples of a length from which on it has a column."""


def writing_by_length(comparison: Comparison, chosen: Measure | None = None) -> Table | None:
    """One row for each way in which a task was written, a column a length; None where no task has several."""
    own = written_in_ways(comparison)
    texts: list[dict[str, str]] = []
    numbers: list[dict[str, Any]] = []
    for _, point in in_order(own).iterrows():
        head = {"task": point.task, "written": way(point), "model": point.model}
        measure = measure_of(own[own.task == point.task], chosen)
        found = _by_length(comparison, point, measure)
        texts += [head | {str(length): row["text"] for length, row in found.items()}] if found else []
        numbers += [head | {"length": length, "measure": measure} | row for length, row in found.items()]
    if not texts:
        return None
    lengths = sorted({int(row["length"]) for row in numbers})
    columns = ["task", "written", "model", *map(str, lengths)]
    told = pd.DataFrame(texts).reindex(columns=columns).fillna(HOLE)
    shown = own[own.task.isin(told.task)]
    counts = sorted({int(row["n"]) for row in numbers})
    caption = (
        "Ways of writing by the length of the context, in tokens: accuracy as in the table above, in % with its 95 % "
        f"interval, of {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} examples each; lengths of fewer "
        f"than {ENOUGH} examples are left out. {HOLE} no result."
    )
    frame = pd.DataFrame(numbers).drop(columns="text")
    return Table("writing-by-length", " ".join([caption, *warnings(shown)]), without_model(told, shown), frame)


def _by_length(comparison: Comparison, point: pd.Series, measure: Measure) -> dict[int, dict[str, Any]]:
    """The accuracy of a point at each length that has enough examples; nothing where fewer than two have."""
    key = key_of(point)
    labels = comparison.labels[key[: len(SETTING)]]
    means = by_example(comparison.values[key][measure])
    lengths = {example: labels[example].get("length") for example in means}
    counts = Counter(length for length in lengths.values() if isinstance(length, int))
    kept = sorted(length for length, count in counts.items() if count >= ENOUGH)
    found: dict[int, dict[str, Any]] = {}
    for length in kept if len(kept) > 1 else ():
        here = {example: value for example, value in means.items() if lengths[example] == length}
        contexts = contexts_of({example: labels[example] for example in here})
        mean = bootstrap_interval(np.array(list(here.values()), dtype=np.float64), contexts_in_order(here, contexts))
        interval = "" if np.isnan(mean.low) else f" [{100 * mean.low:.1f}, {100 * mean.high:.1f}]"
        ends = {"accuracy": mean.mean, "accuracy_low": mean.low, "accuracy_high": mean.high}
        found[length] = {"text": f"{100 * mean.mean:.1f}{interval}", "n": len(here), **ends}
    return found
