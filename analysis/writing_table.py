"""Ways of writing under dense attention: one token a block, so many a step, or all that are sure, by task."""

from __future__ import annotations

import math
import re
from typing import Any

import pandas as pd

from analysis.caption import closing
from analysis.comparison import BASELINE, POINT, SETTING, Comparison, Key, common_values
from analysis.contexts import contexts_of
from analysis.measure import Measure, measure_of
from analysis.ordering import base_method
from analysis.statistics import Interval, paired_difference
from analysis.table import HOLE, Table, interval_text, signed

AUTOREGRESSIVE = "autoregressive"
PERPLEXITY = "perplexity"


def writing_table(comparison: Comparison, chosen: Measure | None = None) -> Table | None:
    """One row for each way in which a task was written with dense attention, the base's own first.

    A model whose blocks hold one token writes autoregressively. None where no task was written in two ways.
    """
    own = written_in_ways(comparison)
    if own.empty:
        return None
    found = [_row(comparison, point, own, chosen) for _, point in in_order(own).iterrows()]
    texts, numbers = (pd.DataFrame([pair[side] for pair in found]) for side in (0, 1))
    if texts[PERPLEXITY].eq(HOLE).all():
        texts = texts.drop(columns=PERPLEXITY)
    texts = without_model(texts, own)
    caption = (
        "Ways of writing with dense attention: exact match of the tasks that are right or wrong as a whole, else the "
        "score, in % with its 95 % interval; paired difference to autoregressive writing in points; the score, which "
        "an answer that says more than asked does not lose; forwards a block, commits included; tokens a forward; "
        "tokens an answer, up to the stop token; ended: share of answers that "
        f"ended by themselves, in %.{_perplexity(texts)}{closing(own)}"
    )
    return Table("writing", caption, texts, numbers)


def written_in_ways(comparison: Comparison) -> pd.DataFrame:
    """The dense points of the tasks that one model wrote in two ways or more."""
    points = comparison.points
    dense = points[(points.method == BASELINE) & (points.status == "done")]
    return dense[dense.groupby(["task", "question", dense.model.map(base_method)]).method.transform("size") > 1]


def without_model(texts: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """`texts` without the name of the one model whose variants are the ways."""
    one_model = points.model.map(base_method).nunique() == 1
    return texts.drop(columns="model") if one_model and not texts[["task", "written"]].duplicated().any() else texts


def _perplexity(texts: pd.DataFrame) -> str:
    if PERPLEXITY not in texts:
        return ""
    return " Perplexity: of all answers under the model's body read autoregressively, stop tokens included."


def in_order(points: pd.DataFrame) -> pd.DataFrame:
    """By task, 512 before 1024; then autoregressive writing, then the others by name."""
    keys = {
        number: (_natural(f"{point.task} {point.question}"), way(point) != AUTOREGRESSIVE, point.decoding, point.model)
        for number, point in points.iterrows()
    }
    return points.loc[sorted(keys, key=lambda number: keys[number])]


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def way(point: pd.Series) -> str:
    """How the answers of a point were written."""
    return AUTOREGRESSIVE if point.block_size == 1 else str(point.decoding)


def _row(
    comparison: Comparison, point: pd.Series, points: pd.DataFrame, chosen: Measure | None
) -> tuple[dict[str, str], dict[str, Any]]:
    """A row as text, and its numbers."""
    measure = measure_of(points[points.task == point.task], chosen)
    difference = _difference(comparison, point, points, measure)

    def show(field: str, style: str, factor: float = 1.0) -> str:
        value = point.get(field, math.nan)
        return HOLE if pd.isna(value) else format(factor * value, style)

    low, high = point[f"{measure}_low"], point[f"{measure}_high"]
    interval = "" if math.isnan(low) else f" [{100 * low:.1f}, {100 * high:.1f}]"
    told = HOLE
    if difference is not None:
        told = f"{signed(difference.mean)} {interval_text(difference.low, difference.high)}".rstrip()
    texts = {
        "task": point.task,
        "written": way(point),
        "model": point.model,
        "n": show("n", ".0f"),
        "accuracy": f"{100 * point[measure]:.1f}{interval}",
        "score": show("score", ".1f", 100),
        f"to {AUTOREGRESSIVE}": told,
        "forwards a block": show("forwards_per_block", ".2f"),
        "tokens a forward": show("tokens_per_forward", ".2f"),
        "tokens an answer": show("tokens_per_answer", ".1f"),
        "ended": show("ended", ".0f", 100),
        PERPLEXITY: show("answer_perplexity", ".2f"),
    }
    ends = (difference.mean, difference.low, difference.high) if difference else (math.nan,) * 3
    numbers = {"task": point.task, "written": way(point), "model": point.model, "n": point.n, "measure": measure}
    numbers |= {"accuracy": point[measure], "accuracy_low": low, "accuracy_high": high}
    numbers |= dict(zip(("difference", "difference_low", "difference_high"), ends, strict=True))
    fields = ("score", "forwards_per_block", "tokens_per_forward", "tokens_per_answer", "ended", "answer_perplexity")
    return texts, numbers | {field: point.get(field, math.nan) for field in fields}


def _difference(comparison: Comparison, point: pd.Series, points: pd.DataFrame, measure: Measure) -> Interval | None:
    """To the one autoregressive cell of the model that answered the same examples; None where there is no such cell."""
    same = points[(points.task == point.task) & (points.question == point.question) & (points.block_size == 1)]
    same = same[same.model.map(base_method) == base_method(point.model)]
    if len(same) != 1 or point.block_size == 1:
        return None
    ours, theirs = (key_of(p) for p in (point, same.iloc[0]))
    if comparison.values[ours]["exact"].keys() != comparison.values[theirs]["exact"].keys():
        return None
    first, second = common_values(ours, theirs, comparison.values)
    return paired_difference(first[measure], second[measure], contexts_of(comparison.labels[ours[: len(SETTING)]]))


def key_of(point: pd.Series) -> Key:
    """The key of a point in a `Comparison`."""
    return tuple(str(point[field]) for field in POINT)
