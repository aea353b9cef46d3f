"""What became of the cells of a sweep, and the table that closes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runners.cell import Cell
from runners.record import CellRecord
from runners.variants import Variants

TRUNCATED = "truncated_examples"


@dataclass(frozen=True)
class Outcome:
    """A cell and its record. `computed` is False where the record stood before."""

    cell: Cell
    record: CellRecord
    computed: bool


def exit_status(outcomes: Sequence[Outcome]) -> int:
    """Return 0 when every cell is done, else 1."""
    return int(any(outcome.record.status != "done" for outcome in outcomes))


def show(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print the tables of a sweep, its failures, and where its results are. A failed cell leaves holes."""
    for kind in dict.fromkeys(type(outcome.cell.runner) for outcome in outcomes):
        _show_table(console, [outcome for outcome in outcomes if type(outcome.cell.runner) is kind])
    for outcome in outcomes:
        if outcome.record.status != "done":
            lines = (outcome.record.error or "").strip().splitlines()
            told = f"failed: {outcome.cell.name}: {outcome.record.status}: {lines[-1] if lines else 'no message'}"
            console.print(escape(told), highlight=False, soft_wrap=True)
    failed = sum(outcome.record.status != "done" for outcome in outcomes)
    computed = sum(outcome.computed and outcome.record.status == "done" for outcome in outcomes)
    folders = sorted({str(outcome.cell.folder.parent) for outcome in outcomes})
    told = f"{computed} cells computed, {len(outcomes) - computed - failed} were finished before"
    told += f", {failed} failed." if failed else "."
    console.print(f"{told} Tables and figures: python -m analysis {' '.join(folders)}", highlight=False, soft_wrap=True)
    if any(outcome.cell.runner.json_line for outcome in outcomes):
        console.print(_json_line(outcomes, folders), markup=False, highlight=False, soft_wrap=True)


def _json_line(outcomes: Sequence[Outcome], folders: Sequence[str]) -> str:
    """Return the cells with all their metrics, for a program that reads the last line."""
    cells = []
    for outcome in outcomes:
        record = outcome.record
        names = record.labels.model_dump(include={"model", "method", "budget", "task", "decoding", "runner"})
        cells.append({"name": record.name, **names, "status": record.status, **record.metrics})
    return json.dumps({"results": list(folders), "cells": cells})


def _show_table(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print one row a cell, with a column for each option that tells equally named cells apart."""
    variants = Variants([outcome.cell for outcome in outcomes])
    metrics = dict(outcomes[0].cell.runner.columns)
    truncated = any(outcome.record.metrics.get(TRUNCATED) for outcome in outcomes)
    if truncated:
        metrics[TRUNCATED] = "truncated"
    table = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    for head in ("method", "budget", "task", *variants.columns.values()):
        table.add_column(escape(head), no_wrap=True)
    for head in metrics.values():
        table.add_column(head, justify="right")
    for outcome in outcomes:
        found = outcome.record.metrics
        cells = [f"{found[name]:.3f}" if name in found else "-" for name in metrics]
        table.add_row(*map(escape, (*outcome.cell.shown, *variants.values(outcome.cell))), *cells)
    console.print(table)
    if truncated:
        cut = "to the model's positions or to task.max_prompt_tokens, from the middle of the context."
        console.print(f"truncated: prompts that were cut {cut}", soft_wrap=True)
