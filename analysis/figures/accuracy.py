"""Accuracy against the KV budget, and against the measured density, by method."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from analysis.comparison import BASELINE
from analysis.figures.style import (
    Look,
    budget_axis,
    draw_line,
    legend_below,
    looks,
    outer_labels,
    panels,
    save,
    shift,
    styled,
    title,
)
from analysis.measure import Measure, measure_name, measure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEP = 5
"""Limits of an axis of scores are multiples of this many points."""


@styled
def accuracy_by_budget(points: pd.DataFrame, chosen: Measure | None, folder: Path, name: str) -> list[Path]:
    """One panel a task; lines by method with the 95 % interval of their mean. One figure for each unit of budget.

    Accuracy is the `chosen` measure, or else that of the panel's task. A line breaks where a cell failed or is missing.
    """
    written = []
    for unit in ("tokens", "share"):
        own = _measured(points, unit)
        if own.empty:
            continue
        methods = looks(own.method)
        tasks = list(dict.fromkeys(own.task))
        figure, axes = panels(len(tasks))
        for axis, task in zip(axes, tasks, strict=True):
            here = own[own.task == task]
            score = measure_of(here, chosen)
            budgets = sorted(set(here.budget[here.budget_unit == unit]))
            for rank, (method, look) in enumerate(methods.items()):
                line = here[here.method == method]
                if (line.budget_unit == unit).any():
                    placed = line.set_index("budget").reindex(budgets)
                    _line(axis, placed, score, method, look, shift(rank, len(methods)))
                elif len(line):
                    _level(axis, line.iloc[0], score, method, look)
            budget_axis(axis, budgets, unit)
            _finish(axis, task, own, chosen)
        outer_labels(axes)
        legend_below(figure, axes)
        written.append(save(figure, folder, name if unit == "tokens" else f"{name}-share"))
    return written


@styled
def accuracy_by_density(points: pd.DataFrame, chosen: Measure | None, folder: Path, name: str) -> list[Path]:
    """The same accuracies over the share of a dense run's KV entries that were really read."""
    own = points[(points.status == "done") & points.density.notna()] if "density" in points else points.iloc[:0]
    if own.empty:
        return []
    methods = looks(own.method)
    tasks = list(dict.fromkeys(own.task))
    figure, axes = panels(len(tasks))
    for axis, task in zip(axes, tasks, strict=True):
        here = own[own.task == task]
        score = measure_of(here, chosen)
        for _, group in here.groupby("budget_unit"):
            budgets = sorted(set(group.budget))
            for method, look in methods.items():
                line = group[group.method == method]
                if method == BASELINE and len(line):
                    _level(axis, line.iloc[0], score, method, look)
                elif len(line):
                    placed = line.set_index("budget").reindex(budgets)
                    draw_line(axis, 100 * placed.density, 100 * placed[score], method, look)
        axis.set_xlabel("density (% of dense KV reads)")
        _finish(axis, task, own, chosen)
    outer_labels(axes)
    legend_below(figure, axes)
    return [save(figure, folder, name)]


def _measured(points: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Points with a result, in this unit or without a budget, of the tasks that have any in this unit."""
    done = points[points.status == "done"]
    tasks = done[done.budget_unit == unit].task.unique()
    return done[done.task.isin(tasks) & done.budget_unit.isin([unit, ""])]


def _level(axis: Axes, point: pd.Series, score: str, method: str, look: Look) -> None:
    """A method without a budget: its accuracy at every budget."""
    axis.axhline(100 * point[score], color=look.color, linestyle=look.dash, linewidth=1, label=method, zorder=2)
    axis.axhspan(100 * point[f"{score}_low"], 100 * point[f"{score}_high"], color=look.color, alpha=0.07, linewidth=0)


def _line(axis: Axes, line: pd.DataFrame, score: str, method: str, look: Look, factor: float) -> None:
    x = line.index.to_numpy() * factor
    low, high = 100 * line[f"{score}_low"], 100 * line[f"{score}_high"]
    axis.fill_between(x, low, high, color=look.color, alpha=0.13, linewidth=0)
    draw_line(axis, x, 100 * line[score], method, look)


def _finish(axis: Axes, task: str, drawn: pd.DataFrame, chosen: Measure | None) -> None:
    """Axis of accuracy and title. Exact match has the whole scale; scores have the part of it that holds them."""
    here = drawn[drawn.task == task]
    names = {name: measure_name(own, chosen) for name, own in drawn.groupby("task")}
    if measure_of(here, chosen) == "exact":
        axis.set_ylim(-4, 104)
        axis.set_yticks(range(0, 101, 20))
    else:
        floor = STEP * math.floor(100 * here.score_low.min() / STEP)
        top = STEP * math.ceil(100 * here.score_high.max() / STEP)
        axis.set_ylim(floor - 1, max(top, floor + STEP) + 1)
    axis.set_ylabel(f"{names[task] if len(set(names.values())) == 1 else 'accuracy'} (%)")
    if len(names) > 1:
        axis.set_title(title(task, drawn.task) + (f"\n{names[task]}" if len(set(names.values())) > 1 else ""))
