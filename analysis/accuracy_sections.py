"""The sections on accuracy: benchmarks as a whole, tasks of their own, KV entries read, length and depth."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.accuracy_table import accuracy_table
from analysis.caption import where
from analysis.comparison import BASELINE, POINT, SETTING, Comparison
from analysis.figures.accuracy import accuracy_by_budget, accuracy_by_density
from analysis.figures.density import density_by_budget
from analysis.figures.heatmap import grid_examples, needle_heatmap
from analysis.frame import Results
from analysis.measure import Measure
from analysis.ordering import budget_order
from analysis.section import Section, captioned, slug
from analysis.suite import PLACE, Suite, suites
from analysis.suite_table import category_table, split_table, suite_table
from analysis.table import Table
from analysis.writing_table import written_in_ways

SPLITS = ("length", "bucket", "difficulty")
"""Example labels by which a benchmark gets a table of its own."""
PANELS = 12
"""Panels that fit a page; a figure of more is cut into parts."""


def accuracy_sections(results: Results, comparison: Comparison, chosen: Measure | None, folder: Path) -> list[Section]:
    """Sections for each model, decoding and place of the question. Writes their figures into `folder`."""
    sections: list[Section] = []
    grid = grid_examples(results)
    found = list(suites(comparison, chosen))
    ways = written_in_ways(comparison)
    for key, points in comparison.points.groupby(PLACE, sort=False):
        place = tuple(map(str, key))
        own = [suite for suite in found if suite.place == place]
        in_suites = points.index.isin([index for suite in own for index in suite.points.index])
        for suite in own:
            sections += _suite_sections(suite, chosen, folder)
        # What was run dense alone, to compare ways of writing, has no budget to be told by.
        compared = points.method.eq(BASELINE).all() and points.index.isin(ways.index).all()
        if not in_suites.all() and not compared:
            sections += _task_sections(points[~in_suites], chosen, folder)
        depth = Section(f"Accuracy by length and depth: {_told(place)}")
        depth.figures = _heatmaps(points[~in_suites], grid, chosen, folder)
        sections.append(depth)
    return sections


def _suite_sections(suite: Suite, chosen: Measure | None, folder: Path) -> list[Section]:
    """A benchmark: its tables, its average against budget and density; single tasks as details."""
    name = slug(suite.full_name, *suite.place)
    whole = Section(f"{suite.full_name}: {_told(suite.place)}", tables=_suite_tables(suite, name))
    summary = suite.summary()
    whole.figures = captioned(
        accuracy_by_budget(summary, chosen, folder, f"accuracy-{name}"),
        f"{suite.full_name}: the mean over tasks against the KV budget. Bands: 95 % intervals. Markers at one budget "
        "stand slightly apart.",
    )
    tasks = Section(f"{suite.full_name}, each task: {_told(suite.place)}", details=True)
    tasks.tables = _accuracy_tables(suite.points, chosen)
    for part, own in enumerate(_parts(suite), start=1):
        tasks.figures += captioned(
            accuracy_by_budget(own, chosen, folder, f"accuracy-{name}-tasks-{part}"),
            "Accuracy of each task against the KV budget, with 95 % intervals. In panels of one measure a point is as "
            "high, wherever the axis begins.",
        )
    density = Section(f"{suite.full_name}, KV entries really read: {_told(suite.place)}")
    average = summary[summary.task == summary.task.iloc[0]]
    density.figures = _density_figures(average, chosen, folder, name)
    return [whole, tasks, density]


def _suite_tables(suite: Suite, name: str) -> list[Table]:
    tables = [category_table(suite, f"{name}-categories"), suite_table(suite, name)]
    tables += [split_table(suite, f"{name}-by-{label}", label) for label in SPLITS]
    return [table for table in tables if table is not None]


def _parts(suite: Suite) -> list[pd.DataFrame]:
    """The points of as many tasks as fit one figure each, in the benchmark's order."""
    order = [suite.tasks[start : start + PANELS] for start in range(0, len(suite.tasks), PANELS)]
    return [
        suite.points[suite.points.task.isin(tasks)].sort_values("task", key=lambda t: t.map(suite.tasks.index))
        for tasks in order
    ]


def _task_sections(points: pd.DataFrame, chosen: Measure | None, folder: Path) -> list[Section]:
    place = tuple(map(str, points[PLACE].iloc[0]))
    name = slug(*place)
    accuracy = Section(f"Accuracy by KV budget: {_told(place)}", tables=_accuracy_tables(points, chosen))
    accuracy.figures = captioned(
        accuracy_by_budget(points, chosen, folder, f"accuracy-{name}"),
        "Accuracy against the KV budget. Bands: 95 % intervals. Markers at one budget stand slightly apart.",
    )
    density = Section(f"KV entries really read: {_told(place)}")
    density.figures = _density_figures(points, chosen, folder, name)
    return [accuracy, density]


def _accuracy_tables(points: pd.DataFrame, chosen: Measure | None) -> list[Table]:
    tables = []
    for key, own in points.groupby(SETTING, sort=False):
        setting = tuple(map(str, key))
        tables.append(accuracy_table(f"accuracy-{slug(*setting)}", setting, own, chosen))
    return tables


def _density_figures(points: pd.DataFrame, chosen: Measure | None, folder: Path, name: str) -> list[tuple[Path, str]]:
    return captioned(
        accuracy_by_density(points, chosen, folder, f"accuracy-density-{name}"),
        f"Accuracy against the KV entries really read, as a share of what dense reads. {_floor(points)}",
    ) + captioned(
        density_by_budget(points, folder, f"density-{name}"),
        f"Measured density against the budget; dotted: budget over prefix length. {_floor(points)}",
    )


def _heatmaps(points: pd.DataFrame, grid: pd.DataFrame, chosen: Measure | None, folder: Path) -> list[tuple[Path, str]]:
    """One heatmap a task, at the middle one of its budgets. Examples of points without a result stay out."""
    figures: list[tuple[Path, str]] = []
    done = points[points.status == "done"]
    for task, own in done.groupby("task", sort=False):
        budgets = budget_order(own[own.budget_label != ""])
        if budgets:
            budget = budgets[(len(budgets) - 1) // 2]
            rows = grid.merge(own[[*POINT, "metric"]])
            name = f"heatmap-{slug(*map(str, own[[*PLACE, 'task']].iloc[0]), budget)}"
            caption = f"{task}: accuracy by context length and needle depth, budget {budget}."
            figures += captioned(needle_heatmap(rows, budget, chosen, folder, name), caption)
    return figures


def _told(place: tuple[str, ...]) -> str:
    model, decoding, question = place
    return ", ".join([model, f"{decoding} decoding", *([f"question {where(question)}"] if question != "text" else [])])


def _floor(points: pd.DataFrame) -> str:
    """Why density does not fall to budget / prefix."""
    found = sorted(points.dense_layers[points.method != BASELINE].dropna().unique())
    count = " or ".join(f"{layers:g}" for layers in found) or "d"
    whole = (
        "exact steps and dense commits" if found == [0] else f"the first {count} layers, exact steps and dense commits"
    )
    return f"Whatever the budget, {whole} are read whole, so density has a floor."
