"""The tables that close a sweep: all metrics of a few cells, or the headline of many, a column for each task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runners.variants import Variants

if TYPE_CHECKING:
    from runners.sweeping.outcome import Outcome

TRUNCATED, FUSED = "truncated_examples", "fused_forwards_per_block"
LONG = 60  # cells from which on a row for each is too much to read
TASKS_WIDTH = 72  # characters for the heads of the tasks that stand in one table


def show_tables(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print the metrics of the cells of each runner. A cell that is not done leaves holes."""
    for kind in dict.fromkeys(type(outcome.cell.runner) for outcome in outcomes):
        found = [outcome for outcome in outcomes if type(outcome.cell.runner) is kind]
        tasks = list(dict.fromkeys(outcome.cell.labels.task for outcome in found))
        if len(found) < LONG or len(tasks) == 1:
            _show_rows(console, found)
        else:
            for chosen in _fitting(tasks):
                _show_headlines(console, found, chosen)
        if any(_metrics(outcome).get(TRUNCATED) for outcome in found):
            cut = "to the model's positions or to task.max_prompt_tokens, from the middle of the context."
            console.print(f"truncated: prompts that were cut {cut}", soft_wrap=True)


def _show_rows(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print one row a cell, with a column for each option that tells equally named cells apart."""
    variants = Variants([outcome.cell for outcome in outcomes])
    metrics = dict(outcomes[0].cell.runner.columns)
    if not any(outcome.cell.settings.fuse_commit for outcome in outcomes):
        metrics.pop(FUSED, None)
    if any(_metrics(outcome).get(TRUNCATED) for outcome in outcomes):
        metrics[TRUNCATED] = "truncated"
    told = {name for outcome in outcomes for name in _metrics(outcome)}
    metrics = {name: head for name, head in metrics.items() if name in told or not told}  # a head alone if all failed
    table = _table(["method", "budget", "task", *variants.columns.values()], list(metrics.values()))
    for outcome in outcomes:
        found = _metrics(outcome)
        names = (*outcome.cell.shown, *variants.values(outcome.cell))
        table.add_row(*map(escape, names), *(_number(found.get(name)) for name in metrics))
    console.print(table)


def _show_headlines(console: Console, outcomes: Sequence[Outcome], tasks: Sequence[str]) -> None:
    """Print one row for cells that differ in their task alone, with the headline of each of `tasks`."""
    variants = Variants([outcome.cell for outcome in outcomes])
    headline = outcomes[0].cell.runner.headline
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for outcome in outcomes:
        if outcome.cell.labels.task in tasks:
            method, budget, task = outcome.cell.shown
            row = rows.setdefault((method, budget, *variants.values(outcome.cell)), {})
            row[task] = _number(_metrics(outcome).get(headline))
    table = _table(["method", "budget", *variants.columns.values()], [f"{task}\n{headline}" for task in tasks])
    for names, found in rows.items():
        table.add_row(*map(escape, names), *(found.get(task, "") for task in tasks))
    console.print(table)


def _fitting(tasks: Sequence[str]) -> Iterator[list[str]]:
    """Split the tasks into parts whose heads fit beside each other."""
    part: list[str] = []
    for task in tasks:
        if part and sum(len(name) + 2 for name in [*part, task]) > TASKS_WIDTH:
            yield part
            part = []
        part.append(task)
    yield part


def _table(names: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    for head in names:
        table.add_column(escape(head), no_wrap=True)
    for head in numbers:
        table.add_column(escape(head), justify="right")
    return table


def _metrics(outcome: Outcome) -> dict[str, float]:
    return {} if outcome.record is None else outcome.record.metrics


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
