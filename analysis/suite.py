"""The tasks of one benchmark under one model: each task's mean, and the means over groups of tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from analysis.categories import MACRO, categories_of, official_order
from analysis.comparison import BASELINE, METRICS, SCORES, SETTING, Comparison, ExampleLabels, Key, common_values
from analysis.contexts import contexts_of, in_order
from analysis.marks import marked
from analysis.measure import Measure, measure_of
from analysis.ordering import budget_order, method_order
from analysis.pooling import by_example
from analysis.statistics import Interval, Stratum, mean_of_means, stratum

PLACE = ["model", "decoding", "question"]
AVERAGE = "average"
Row = tuple[str, str]
"""Method and budget label."""


@dataclass(frozen=True)
class Cell:
    """A mean over tasks with its interval, and its paired difference to dense (None: no dense result beside it)."""

    value: Interval
    difference: Interval | None


@dataclass(frozen=True)
class Suite:
    """`points` are those of its tasks. Names of tasks are as shown, in the benchmark's own order."""

    name: str
    variant: str
    place: Key
    points: pd.DataFrame
    comparison: Comparison
    chosen: Measure | None

    @cached_property
    def tasks(self) -> list[str]:
        members = dict(zip(self.points.task, self.points.member, strict=True))
        order = official_order(self.name, members.values())
        return sorted(members, key=lambda task: (order.index(members[task]), task))

    @cached_property
    def rows(self) -> list[Row]:
        """Methods with dense first, and the budgets of each, rising."""
        found = []
        for method in method_order(self.points.method):
            own = self.points[self.points.method == method]
            found += [(method, label) for label in budget_order(own)]
        return found

    @cached_property
    def measures(self) -> dict[str, Measure]:
        """What each task is judged by."""
        return {task: measure_of(self.points[self.points.task == task], self.chosen) for task in self.tasks}

    @cached_property
    def categories(self) -> dict[str, list[str]]:
        """The benchmark's categories of which all tasks are here."""
        members = {self.points.member[self.points.task == task].iloc[0]: task for task in self.tasks}
        found = categories_of(self.name, members)
        return {category: [members[m] for m in names] for category, names in found.items()}

    @cached_property
    def macro(self) -> dict[str, float]:
        """The weight of each task in the benchmark's overall score, the mean of the means of its categories.

        Empty where it is the mean of the tasks, or where a task stands outside the categories that are whole.
        """
        groups = list(self.categories.values())
        if self.name not in MACRO or len(groups) < 2 or {t for tasks in groups for t in tasks} != set(self.tasks):
            return {}
        return {task: 1 / len(groups) / len(tasks) for tasks in groups for task in tasks}

    @property
    def full_name(self) -> str:
        """Name, variant, and the marks of any of its tasks."""
        marks = dict.fromkeys(mark for own in self.points.marks for mark in own)
        return marked(self.name, (self.variant, *marks))

    def setting(self, task: str) -> Key:
        model, decoding, question = self.place
        return (model, task, decoding, question)

    def status(self, row: Row, task: str) -> str:
        """The status of a cell; empty where there is none."""
        method, budget = row
        own = self.points
        found = own.status[(own.task == task) & (own.method == method) & (own.budget_label == budget)]
        return str(found.iloc[0]) if len(found) else ""

    def mean(
        self,
        row: Row,
        tasks: Sequence[str],
        keep: Callable[[dict[str, Any]], bool] | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> Cell | None:
        """The mean of the means of `tasks`; None when any of them has no result.

        `keep` chooses examples by their labels. `weights` are those of the tasks; without them all weigh the same.
        """
        points = [(*self.setting(task), *row) for task in tasks]
        values = self.comparison.values
        if not points or any(point not in values for point in points):
            return None
        shares = [weights[task] for task in tasks] if weights else None
        ours = mean_of_means([self._stratum(point, False, keep) for point in points], shares)
        bases = [(*self.setting(task), BASELINE, "") for task in tasks]
        if row == (BASELINE, "") or any(base not in values for base in bases):
            return Cell(ours, None)
        return Cell(ours, mean_of_means([self._stratum(point, True, keep) for point in points], shares))

    @cached_property
    def _strata(self) -> dict[tuple[Key, bool], Stratum]:
        return {}

    def _stratum(self, point: Key, paired: bool, keep: Callable[[dict[str, Any]], bool] | None) -> Stratum:
        """The examples of a point, or their differences to dense; kept, where all examples count."""
        if keep is None and (point, paired) in self._strata:
            return self._strata[point, paired]
        task, measure = point[SETTING.index("task")], self.measures[point[SETTING.index("task")]]
        labels: ExampleLabels = self.comparison.labels[point[: len(SETTING)]]
        if paired:
            dense = (*point[: len(SETTING)], BASELINE, "")
            first, second = common_values(point, dense, self.comparison.values)
            value = {i: v - second[measure][i] for i, v in first[measure].items()}
        else:
            value = by_example(self.comparison.values[point][measure])
        kept = sorted(i for i in value if keep is None or keep(labels[i]))
        contexts = in_order(kept, contexts_of(labels))
        found = stratum(np.array([value[i] for i in kept], dtype=np.float64), task, contexts)
        if keep is None:
            self._strata[point, paired] = found
        return found

    def label_values(self, label: str) -> dict[Any, list[str]]:
        """The values of an example label, each with the tasks that have such examples. Empty where a task lacks it."""
        found: dict[Any, list[str]] = {}
        for task in self.tasks:
            labels = self.comparison.labels.get(self.setting(task), {})
            values = {own.get(label) for own in labels.values()}
            if None in values:
                return {}
            for value in values:
                found.setdefault(value, []).append(task)
        return found

    def summary(self) -> pd.DataFrame:
        """Points as `Comparison.points` has them, where a task is the average over all tasks or over a category."""
        groups = {f"{AVERAGE} of {len(self.tasks)} tasks": self.tasks}
        groups |= self.categories if len(self.categories) > 1 else {}
        return pd.DataFrame(
            [self._summary_row(row, name, tasks) for name, tasks in groups.items() for row in self.rows]
        )

    def _summary_row(self, row: Row, name: str, tasks: Sequence[str]) -> dict[str, Any]:
        method, budget = row
        own = self.points[(self.points.method == method) & (self.points.budget_label == budget)]
        here = own[own.task.isin(tasks)]
        first = own.iloc[0]
        cell = self.mean(row, tasks)
        found: dict[str, Any] = {**dict(zip(PLACE, self.place, strict=True)), "task": name, "method": method}
        found |= {f: first[f] for f in ("budget_label", "budget", "budget_unit", "dense_layers", "decoding_options")}
        names = set(self.points.metric)
        found |= {"status": "done" if cell else "hole", "metric": names.pop() if len(names) == 1 else "mean score"}
        if cell is None:
            return found
        for measure in SCORES:
            found |= {measure: cell.value.mean, f"{measure}_low": cell.value.low, f"{measure}_high": cell.value.high}
        means = [m for m in (*METRICS, "nominal_density") if m in here]
        return found | {m: float(here[m].mean()) if here[m].notna().all() else math.nan for m in means}


def suites(comparison: Comparison, chosen: Measure | None = None) -> Iterator[Suite]:
    """The benchmarks of a comparison, each under one model and its options: two tasks or more, or one that is all."""
    own = comparison.points[comparison.points.suite != ""]
    for key, points in own.groupby([*PLACE, "suite", "variant"], sort=False):
        *place, name, variant = map(str, key)
        if points.task.nunique() > 1 or name == points.member.iloc[0]:
            yield Suite(name, variant, tuple(place), points, comparison, chosen)
