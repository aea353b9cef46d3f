"""Every cell of a sweep against the dense cell that answered the same examples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from analysis.conditions import Conditions
from analysis.contexts import contexts_of, in_order
from analysis.frame import Results
from analysis.measure import Measure, measure_of
from analysis.pooling import Answer, by_example
from analysis.statistics import Interval, bootstrap_interval, mcnemar_exact, paired_difference
from mage.errors import UserError

SETTING = ["model", "task", "decoding", "question"]
POINT = [*SETTING, "method", "budget_label"]
CARRIED = (
    *("budget", "budget_unit", "dense_layers", "query_aware", "block_size", "decoding_options"),
    *("metric", "source", "random", "extended", "marks", "suite", "member", "variant"),
)
SCORES: tuple[Measure, ...] = ("exact", "score")
METRICS = (
    "density",
    "sparse_token_share",
    "sparse_block_share",
    "exact_forwards_per_block",
    "fused_forwards_per_block",
    "sparse_forwards_per_block",
    "commit_forwards_per_block",
    "forwards_per_block",
    "tokens_per_forward",
    "seconds_prefill",
    "seconds_exact",
    "seconds_fused",
    "seconds_selection",
    "seconds_sparse",
    "seconds_commit",
    "tokens_per_second",
    "peak_memory_bytes",
)
BASELINE = "dense"
CEILING = "oracle"

Key = tuple[str, ...]
"""Model, task, decoding, question, method, budget label."""
Values = dict[Measure, dict[Answer, float]]
"""For each of SCORES, the value of every answer."""
Means = dict[Measure, dict[str, float]]
"""For each of SCORES, the mean of every example over its seeds, by example id."""
ExampleLabels = dict[str, dict[str, Any]]
"""The labels of every example, by its id."""


@dataclass(frozen=True)
class Comparison:
    """`points` has one row for each (setting, method, budget), seeds pooled.

    A row holds status, n examples, the number of their answers (more than n where seeds share examples: see
    `analysis.pooling`), that of their contexts where examples share these (then intervals are over contexts), scores
    with intervals, paired differences to dense, and the mean of every metric. Where one side of a difference answered
    more examples, it is over those that both answered.
    A failed point has a status and no numbers. `values` are those of each point, `labels` those of the examples of each
    setting. `conditions` are those of the cells that have numbers.
    """

    points: pd.DataFrame
    values: dict[Key, Values]
    labels: dict[Key, ExampleLabels]
    conditions: Conditions

    def settings(self) -> list[tuple[Key, pd.DataFrame]]:
        """The points of each (model, task, decoding, question)."""
        return [(tuple(map(str, key)), group) for key, group in self.points.groupby(SETTING, sort=False)]


@dataclass(frozen=True)
class OrderCheck:
    """One step of dense >= oracle(k) >= oracle(next smaller k). It fails when the paired interval lies above zero."""

    setting: Key
    larger: str
    smaller: str
    difference: Interval

    @property
    def holds(self) -> bool:
        return not self.difference.low > 0  # without an interval, of few examples, nothing is shown to fail


def compare(results: Results) -> Comparison:
    """Raises UserError when two cells of one setting answered different examples, not the same and more."""
    cells = results.cells[results.cells.runner == "evaluate"]
    if cells.empty:
        raise UserError("no record of runner=evaluate in these folders: there is no accuracy to compare")
    answered: dict[Any, pd.DataFrame] = dict(iter(results.examples.groupby("cell")))
    seeds = {key: set(group.seed) for key, group in cells.groupby(SETTING)}
    rows: list[dict[str, Any]] = []
    values: dict[Key, Values] = {}
    labels: dict[Key, ExampleLabels] = {}
    for key, group in cells.groupby(POINT, sort=False):
        point = tuple(map(str, key))
        row: dict[str, Any] = dict(zip(POINT, point, strict=True))
        row |= {field: group[field].iloc[0] for field in CARRIED}
        row["status"] = _status(group, seeds[key[: len(SETTING)]])
        if row["status"] == "done":
            frame = pd.concat([answered[n].assign(seed=group.seed[n]) for n in group.index if n in answered])
            answers = list(zip(frame.seed.astype(int), frame.id, strict=True))
            values[point] = {s: dict(zip(answers, frame[s].astype(float), strict=True)) for s in SCORES}
            labels.setdefault(point[: len(SETTING)], {}).update(zip(frame.id, frame["labels"], strict=True))
            row |= _summary(frame, values[point]) | _mean_metrics(group, answered)
        rows.append(row)
    for row in rows:
        point = tuple(row[c] for c in POINT)
        baseline = (*point[: len(SETTING)], BASELINE, "")
        if row["status"] == "done" and point != baseline and baseline in values:
            contexts = contexts_of(labels[point[: len(SETTING)]])
            row |= _against(*common_values(point, baseline, values), contexts)
    points = pd.DataFrame(rows)
    for count in ("n", "answers", "contexts"):
        if count in points:
            points[count] = points[count].astype("Int64")
    measured = cells.record[cells.status == "done"]
    return Comparison(points, values, labels, Conditions.of(record.environment for record in measured))


def order_checks(comparison: Comparison, chosen: Measure | None = None) -> list[OrderCheck]:
    """dense >= oracle(k) >= oracle(k') for each next smaller budget k', wherever both were measured.

    On the measure that is `chosen`, or else on that of the task.
    """
    checks: list[OrderCheck] = []
    for setting, points in comparison.settings():
        done, measure = points[points.status == "done"], measure_of(points, chosen)
        ceiling = done[done.method == CEILING]
        whole = ceiling[ceiling.budget_unit == "tokens"]
        contexts = contexts_of(comparison.labels.get(setting, {}))
        chain = [(*setting, BASELINE, "")] if (*setting, BASELINE, "") in comparison.values else []
        chain += [(*setting, CEILING, label) for label in whole.sort_values("budget", ascending=False).budget_label]
        for larger, smaller in pairwise(chain):
            ours, theirs = common_values(smaller, larger, comparison.values)
            difference = paired_difference(ours[measure], theirs[measure], contexts)
            checks.append(OrderCheck(setting, _name(larger), _name(smaller), difference))
    return checks


def _name(point: Key) -> str:
    return f"{point[-2]}({point[-1]})" if point[-1] else point[-2]


def _status(group: pd.DataFrame, seeds: set[int]) -> str:
    """`done` only when every seed of the setting is there and done: nothing is averaged around a hole."""
    failed = group.status[group.status != "done"]
    if len(failed):
        return str(failed.iloc[0])
    missing = sorted(seeds - set(group.seed))
    return f"no seed {missing[0]}" if missing else "done"


def _summary(frame: pd.DataFrame, values: Values) -> dict[str, float]:
    examples = frame.groupby("id")
    row: dict[str, float] = {"n": len(examples), "answers": len(frame)}
    contexts = contexts_of(dict(zip(frame.id, frame["labels"], strict=True)))
    if contexts:
        row["contexts"] = len(set(in_order(frame.id, contexts) or ()))
    for score in SCORES:
        means = by_example(values[score])
        mean = bootstrap_interval(np.array(list(means.values()), dtype=np.float64), in_order(means, contexts))
        row |= {score: mean.mean, f"{score}_low": mean.low, f"{score}_high": mean.high}
    prefix = frame.prefix_tokens.to_numpy(dtype=np.float64)
    budget = frame.budget_tokens.to_numpy(dtype=np.float64, na_value=math.nan)
    row["truncated_examples"] = int((examples.truncated_tokens.max() > 0).sum())
    row["question_tokens"] = float(examples.question_tokens_prefilled.max().median())
    row["budget_tokens"] = float(np.median(budget))
    row |= _answers(frame)
    row["nominal_density"] = float(np.minimum(1, budget / np.maximum(prefix, 1)).mean())
    return row


def _answers(frame: pd.DataFrame) -> dict[str, float]:
    """What the answers are beside right or wrong: their tokens, the share that ended by itself, their perplexity."""
    decided = np.array([sum(kinds.values()) for kinds in frame.tokens_decided])  # the stop token included
    row = {
        "tokens_per_answer": float(frame.generated_tokens.mean()),
        "ended": float((decided > frame.generated_tokens.to_numpy()).mean()),
    }
    if frame.answer_nll.notna().all():
        row["answer_perplexity"] = math.exp(float(frame.answer_nll.sum()) / float(frame.answer_nll_tokens.sum()))
    return row


def _mean_metrics(group: pd.DataFrame, answered: Mapping[Any, pd.DataFrame]) -> dict[str, float]:
    """Metrics of the cells of a point, weighted by their examples; a metric that a record lacks stays empty."""
    weights = [len(answered[n]) for n in group.index]
    present = [metric for metric in METRICS if metric in group.columns]
    # A record from before there were fused forwards has none.
    values = group[present].fillna({metric: 0.0 for metric in METRICS if "fused" in metric})
    return {m: float(np.average(values[m].to_numpy(dtype=np.float64), weights=weights)) for m in present}


def common_values(point: Key, baseline: Key, values: Mapping[Key, Values]) -> tuple[Means, Means]:
    """The means of both by example, over the answers of the smaller one. Raises UserError when examples differ."""
    ours, theirs = values[point], values[baseline]
    common = ours["exact"].keys() & theirs["exact"].keys()
    if len(common) < min(len(ours["exact"]), len(theirs["exact"])):
        odd = min(ours["exact"].keys() ^ theirs["exact"].keys())
        raise UserError(
            f"{_name(point)} and {_name(baseline)} on {' '.join(point[:4])} cannot be paired: they answered different "
            f"examples, {odd[1]!r} of seed {odd[0]} stands on one side only"
        )
    first, second = (
        {s: by_example({answer: v for answer, v in side[s].items() if answer in common}) for s in SCORES}
        for side in (ours, theirs)
    )
    return first, second


def _against(ours: Means, dense: Means, contexts: Mapping[str, str]) -> dict[str, float]:
    row: dict[str, float] = {}
    for score in SCORES:
        difference = paired_difference(ours[score], dense[score], contexts)
        row[f"{score}_difference"] = difference.mean
        row[f"{score}_difference_low"] = difference.low
        row[f"{score}_difference_high"] = difference.high
    return row | {"mcnemar_p": mcnemar_exact(ours["exact"], dense["exact"], contexts)}
