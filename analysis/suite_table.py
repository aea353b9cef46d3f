"""A benchmark as papers print it: rows are method and budget, columns tasks, categories, lengths or buckets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.caption import counted, decoding_of, few, outside_budget, pooled, where
from analysis.marks import warnings
from analysis.suite import AVERAGE, Cell, Row, Suite
from analysis.table import HOLE, MARK, Table

FULL = "full"
"""The budget of a method that has none."""
ORDER = (*("0-4k", "4-8k", "8k+"), *("easy", "hard"), *("short", "medium", "long"))
"""Of the values of labels that are words: LongBench-E's buckets, LongBench v2's difficulties and lengths."""
VALUES = 12
"""Values of a label beyond which it is a measure of each example and no axis of a table."""
HOLES = 6
"""Cells without a result that a caption names for each reason."""


def suite_table(suite: Suite, name: str) -> Table:
    """Columns: the mean of each task on the official scale (x 100), their average, and its difference to dense."""
    heads = {task: suite.points.member[suite.points.task == task].iloc[0] for task in suite.tasks}
    metrics: dict[str, list[str]] = {}
    for task in suite.tasks:
        points = suite.points[suite.points.task == task]
        measure = "exact match" if suite.measures[task] == "exact" else points.metric.iloc[0]
        metrics.setdefault(measure, []).append(heads[task])
    told = "; ".join(f"{metric}: {', '.join(tasks)}" for metric, tasks in metrics.items())
    what = f"Columns: the mean of each task x 100 ({told}). Average: over the {len(heads)} tasks, all weighing alike"
    if suite.macro:
        what += ", which is not the macro-average over categories (Overall) that the table of categories has"
    columns = {heads[task]: {row: _text(suite.mean(row, [task])) for row in suite.rows} for task in heads}
    return _table(suite, name, columns, what)


def category_table(suite: Suite, name: str) -> Table | None:
    """Columns: the means over each category of tasks. None when fewer than two categories are whole."""
    if len(suite.categories) < 2:
        return None
    columns = {
        category: {row: _text(suite.mean(row, tasks)) for row in suite.rows}
        for category, tasks in suite.categories.items()
    }
    sizes = ", ".join(f"{category}: {len(tasks)}" for category, tasks in suite.categories.items())
    average = f"over all {len(suite.tasks)} tasks, all weighing alike"
    if suite.macro:
        average = f"the macro-average over the {len(columns)} categories (Overall), not over tasks"
    what = f"Columns: means over the tasks of a category ({sizes}) x 100. Average: {average}"
    return _table(suite, name, columns, what, suite.macro)


def split_table(suite: Suite, name: str, label: str) -> Table | None:
    """Columns: the values of an example label, such as a length; means over the tasks that have such examples.

    None when the examples lack the label, all have the same, or nearly each has its own.
    """
    found = suite.label_values(label)
    if not 2 <= len(found) <= VALUES:
        return None
    values = sorted(found, key=lambda v: (ORDER.index(v), 0) if v in ORDER else (len(ORDER), v))
    columns = {}
    for value in values:
        keep = _holder(label, value)
        cells = {row: suite.mean(row, found[value], keep) for row in suite.rows}
        columns[str(value)] = {row: _text(cell) + _mark(cell) for row, cell in cells.items()}
    sizes = {len(tasks) for tasks in found.values()}
    over = f"over the {sizes.pop()} tasks" if len(sizes) == 1 else "over the tasks that have such examples"
    what = (
        f"Columns: examples by {label}, means {over}, each task weighing the same, x 100; {MARK} the interval of the "
        f"difference to dense excludes zero. Average: over all examples of the {len(suite.tasks)} tasks"
    )
    return _table(suite, name, columns, what)


def _holder(label: str, value: Any) -> Any:
    return lambda labels: labels[label] == value


def _table(
    suite: Suite,
    name: str,
    columns: Mapping[str, Mapping[Row, str]],
    what: str,
    weights: Mapping[str, float] | None = None,
) -> Table:
    """`weights` of the tasks in the average; without them all weigh the same."""
    texts: list[dict[str, str]] = []
    numbers: list[dict[str, Any]] = []
    for row in suite.rows:
        method, budget = row
        cell = suite.mean(row, suite.tasks, weights=weights)
        head = {"method": method, "budget": budget or FULL}
        shown = {column: cells[row] for column, cells in columns.items()}
        texts.append({**head, **shown, AVERAGE: _text(cell), "difference to dense": _difference(cell)})
        numbers.append({**head, **{column: _number(text) for column, text in shown.items()}, **_numbers(cell)})
    return Table(name, _caption(suite, what), pd.DataFrame(texts), pd.DataFrame(numbers))


def _text(cell: Cell | None) -> str:
    return HOLE if cell is None else f"{100 * cell.value.mean:.2f}"


def _number(text: str) -> float:
    return math.nan if text.startswith(HOLE) else float(text.rstrip(MARK))


def _mark(cell: Cell | None) -> str:
    difference = cell.difference if cell else None
    return MARK if difference is not None and (difference.low > 0 or difference.high < 0) else ""


def _difference(cell: Cell | None) -> str:
    if cell is None or cell.difference is None:
        return HOLE
    mean, low, high = (100 * v for v in (cell.difference.mean, cell.difference.low, cell.difference.high))
    interval = "" if math.isnan(low) else f" [{low:+.2f}, {high:+.2f}]"
    return f"{mean:+.2f}{interval}{_mark(cell)}"


def _numbers(cell: Cell | None) -> dict[str, float]:
    """Average and difference in points, unrounded, with the ends of their intervals."""
    found: dict[str, float] = {}
    for name, interval in ((AVERAGE, cell and cell.value), ("difference", cell and cell.difference)):
        ends = (interval.mean, interval.low, interval.high) if interval else (math.nan,) * 3
        found |= dict(zip((name, f"{name}_low", f"{name}_high"), (100 * end for end in ends), strict=True))
    return found


def _caption(suite: Suite, what: str) -> str:
    model, _, question = suite.place
    points = suite.points
    return " ".join(
        [
            f"{suite.full_name}, model {model}, by method and KV budget (tokens, or % of the prefix).",
            f"{what}; a row with a hole has none. Difference of the average to dense, with the 95 % interval of a "
            f"bootstrap over examples within tasks, paired by example; {MARK} it excludes zero; {HOLE} no result.",
            f"{counted(points)} a task, decoding {decoding_of(points)}, question {where(question)}.",
            *filter(None, [_holes(suite), _truncation(suite), outside_budget(points), pooled(points), few(points)]),
            *warnings(points),
        ]
    )


def _holes(suite: Suite) -> str:
    """Which cells have no result, and why."""
    found: dict[str, list[str]] = {}
    for method, budget in suite.rows:
        for task in suite.tasks:
            if suite.mean((method, budget), [task]) is None:
                status = suite.status((method, budget), task).replace("_", " ") or "not run"
                found.setdefault(status, []).append(" ".join(filter(None, (task, method, budget))))
    texts = [
        f"{status}: {', '.join(c[:HOLES])}{' and others' if len(c) > HOLES else ''}" for status, c in found.items()
    ]
    return f"Without a result: {'; '.join(texts)}." if texts else ""


def _truncation(suite: Suite) -> str:
    """How many examples were truncated: the most of any row, for all rows have the same prompts."""
    points = suite.points.dropna(subset=["n"]) if "n" in suite.points else suite.points.iloc[:0]
    cut: dict[str, int] = {}
    for member, own in points.groupby("member"):
        if most := int(own.truncated_examples.max()):
            cut[str(member)] = most
    if not cut:
        return ""
    total = int(points.groupby("member").n.max().sum())
    named = ", ".join(f"{member} {count}" for member, count in sorted(cut.items(), key=lambda item: -item[1]))
    unit = "example" if total == 1 else "examples"
    return f"Truncated in the middle, as too long: {sum(cut.values())} of {total} {unit} ({named})."
