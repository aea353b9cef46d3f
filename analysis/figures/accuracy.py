"""Accuracy against the KV budget, and against the measured density, by method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
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
SPAN = 20
"""Points that an axis of scores holds at least: on fewer, a small step looks like a collapse."""
WIDE = 50
"""Points from which on an axis of scores has the whole scale."""
MARGIN = 0.04
"""Of the span, beyond the limits."""


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
        scales = _scales(own, chosen)
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
            _finish(axis, task, own, chosen, scales)
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
    scales = _scales(own, chosen)
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
        _finish(axis, task, own, chosen, scales)
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
    low, high = 100 * point[f"{score}_low"], 100 * point[f"{score}_high"]
    if not math.isnan(low):  # few examples have no interval
        axis.axhspan(low, high, color=look.color, alpha=0.07, linewidth=0)


def _line(axis: Axes, line: pd.DataFrame, score: str, method: str, look: Look, factor: float) -> None:
    x = line.index.to_numpy() * factor
    low, high = 100 * line[f"{score}_low"], 100 * line[f"{score}_high"]
    axis.fill_between(x, low, high, color=look.color, alpha=0.13, linewidth=0)
    draw_line(axis, x, 100 * line[score], method, look)


def _scales(drawn: pd.DataFrame, chosen: Measure | None) -> dict[str, tuple[int, int]]:
    """The limits of the axis of accuracy of each task. In all panels of one measure a point is as high.

    They share their limits where those hold less than WIDE points, and else the number of points. Exact match has the
    whole scale.
    """
    ends: dict[str, dict[str, tuple[float, float]]] = {}
    for name, here in drawn.groupby("task"):
        score = measure_of(here, chosen)
        values = 100 * here[[score, f"{score}_low", f"{score}_high"]].to_numpy(dtype=np.float64)
        found = (0.0, 100.0) if score == "exact" else (float(np.nanmin(values)), float(np.nanmax(values)))
        ends.setdefault(measure_name(here, chosen), {})[str(name)] = found
    scales: dict[str, tuple[int, int]] = {}
    for own in ends.values():
        shared = limits(min(low for low, _ in own.values()), max(high for _, high in own.values()))
        if shared == (0, 100):
            span = max(top - floor for floor, top in (limits(*pair) for pair in own.values()))
            scales |= {task: limits(*pair, span) for task, pair in own.items()}
        else:
            scales |= dict.fromkeys(own, shared)
    return scales


def limits(low: float, high: float, span: int = SPAN) -> tuple[int, int]:
    """An axis of scores that holds `low` to `high`, within 0 to 100: at least `span` points, and all from WIDE on."""
    floor, top = STEP * math.floor(low / STEP), STEP * math.ceil(high / STEP)
    if max(top - floor, span) >= WIDE:
        return 0, 100
    if top - floor < span:
        floor -= STEP * math.ceil((span - top + floor) / 2 / STEP)
        floor = min(max(floor, 0), 100 - span)
        top = floor + span
    return floor, top


def _finish(
    axis: Axes, task: str, drawn: pd.DataFrame, chosen: Measure | None, scales: Mapping[str, tuple[int, int]]
) -> None:
    """Axis of accuracy and title."""
    from matplotlib.ticker import MultipleLocator

    names = {name: measure_name(own, chosen) for name, own in drawn.groupby("task")}
    floor, top = scales[task]
    axis.set_ylim(floor - MARGIN * (top - floor), top + MARGIN * (top - floor))
    axis.yaxis.set_major_locator(MultipleLocator(20 if top - floor > WIDE else 10 if top - floor > SPAN else STEP))
    axis.set_ylabel(f"{names[task] if len(set(names.values())) == 1 else 'accuracy'} (%)")
    if len(names) > 1:
        axis.set_title(title(task, drawn.task) + (f"\n{names[task]}" if len(set(names.values())) > 1 else ""))
