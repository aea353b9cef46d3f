"""Measured density against the KV budget: what a nominal budget really costs in KV reads."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.figures.style import (
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


@styled
def density_by_budget(points: pd.DataFrame, folder: Path, name: str) -> list[Path]:
    """One panel a task, lines by method, and the nominal share budget / prefix below which no method is expected."""
    done = points[(points.status == "done") & (points.budget_unit == "tokens")]
    own = done[done.density.notna()] if "density" in done else done.iloc[:0]
    if own.empty:
        return []
    methods = looks(own.method)
    tasks = list(dict.fromkeys(own.task))
    figure, axes = panels(len(tasks))
    for axis, task in zip(axes, tasks, strict=True):
        here = own[own.task == task]
        budgets = sorted(set(here.budget))
        for rank, (method, look) in enumerate(methods.items()):
            line = here[here.method == method].set_index("budget").reindex(budgets)
            draw_line(axis, line.index * shift(rank, len(methods)), 100 * line.density, method, look)
        nominal = here.groupby("budget").nominal_density.mean().dropna()
        axis.plot(
            nominal.index, 100 * nominal, ".:", color="#555555", markersize=3, linewidth=1, label="budget / prefix"
        )
        budget_axis(axis, budgets, "tokens")
        axis.set_ylim(bottom=0)
        axis.set_ylabel("density (% of dense)")
        if len(tasks) > 1:
            axis.set_title(title(task, tasks))
    outer_labels(axes)
    legend_below(figure, axes)
    return [save(figure, folder, name)]
