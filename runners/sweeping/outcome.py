"""What became of the cells of a sweep, and what closes it: tables, failures once each, the command that tries again."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from runners.cell import Cell
from runners.record import CellRecord
from runners.sweeping.closing_table import show_tables

UNFINISHED = "unfinished"
ELSEWHERE = "by another run"
NAMED = 3  # cells that a line about several names
MESSAGE_WIDTH = 240  # characters of a failure's message


@dataclass(frozen=True)
class Outcome:
    """A cell and its record. `computed` is False where the record stood before.

    record: None where the cell has none: it was not tried, or what computed it died. `note` says why, where known;
    beside a record: that it came from another process during this sweep.
    """

    cell: Cell
    record: CellRecord | None
    computed: bool
    note: str = ""

    @property
    def kind(self) -> str:
        """The status of its record, or `unfinished`."""
        return UNFINISHED if self.record is None else self.record.status

    @property
    def is_done(self) -> bool:
        """Whether the cell has its result."""
        return self.kind == "done"

    @property
    def told(self) -> str:
        """Why it is not done, in one line."""
        text = self.note if self.record is None else self.record.error
        lines = (text or "").strip().splitlines()
        message = lines[-1].strip() if lines else "no message"
        return message if len(message) <= MESSAGE_WIDTH else f"{message[: MESSAGE_WIDTH - 4]} ..."


def exit_status(outcomes: Sequence[Outcome]) -> int:
    """Return 0 when every cell is done, else 1."""
    return int(not all(outcome.is_done for outcome in outcomes))


def show(console: Console, outcomes: Sequence[Outcome], arguments: Sequence[str] = ()) -> None:
    """Print the tables of a sweep, each failure once, the counts, and where the results are.

    arguments: sys.argv, of which the command is made that computes what is not done, and only that.
    """
    show_tables(console, outcomes)
    for line in _failures(outcomes):
        _say(console, line)
    folders = sorted({str(outcome.cell.folder.parent) for outcome in outcomes})
    _say(console, f"{counted(outcomes)} Tables and figures: python -m analysis {shlex.join(folders)}")
    if exit_status(outcomes) and arguments:
        _say(console, f"The same command computes only what is not done: {command(arguments)}")
    if any(outcome.cell.runner.json_line for outcome in outcomes):
        _say(console, _json_line(outcomes, folders))


def counted(outcomes: Sequence[Outcome]) -> str:
    """Return how many cells were computed, stood before, and failed by kind, in one sentence."""
    kinds = Counter(outcome.kind for outcome in outcomes)
    computed = sum(outcome.computed and outcome.is_done for outcome in outcomes)
    elsewhere = sum(outcome.is_done and bool(outcome.note) for outcome in outcomes)
    before = kinds.pop("done", 0) - computed - elsewhere
    told = [f"{computed} {'cell' if computed == 1 else 'cells'} computed", f"{before} were finished before"]
    if elsewhere:
        told.append(f"{elsewhere} computed {ELSEWHERE} meanwhile")
    unfinished = kinds.pop(UNFINISHED, 0)
    if kinds:
        named = ", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items()))
        told.append(f"{kinds.total()} failed ({named})")
    if unfinished:
        told.append(f"{unfinished} unfinished")
    return f"{', '.join(told)}."


def command(arguments: Sequence[str]) -> str:
    """Return the command line of `arguments`, as sys.argv holds them, quoted for a shell."""
    program, *rest = arguments
    return shlex.join(["python", _near(Path(program)), *rest])


def _near(program: Path) -> str:
    """Return a path as it is typed from here."""
    return str(program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program)


def _failures(outcomes: Sequence[Outcome]) -> list[str]:
    """Return a line for each failure, and one for all cells that are unfinished for the same reason."""
    lines = [f"failed: {o.cell.name}: {o.kind}: {o.told}" for o in outcomes if not o.is_done and o.record is not None]
    reasons: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.record is None:
            reasons.setdefault(outcome.told, []).append(outcome.cell.name)
    for reason, names in reasons.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        lines.append(f"unfinished: {', '.join(names[:NAMED])}{more}: {reason}")
    return lines


def _say(console: Console, text: str) -> None:
    console.print(escape(text), highlight=False, soft_wrap=True)


def _json_line(outcomes: Sequence[Outcome], folders: Sequence[str]) -> str:
    """Return the cells with all their metrics, for a program that reads the last line."""
    cells = []
    for outcome in outcomes:
        labels = outcome.cell.labels.model_dump(include={"model", "method", "budget", "task", "decoding", "runner"})
        metrics = {} if outcome.record is None else outcome.record.metrics
        cells.append({"name": outcome.cell.name, **labels, "status": outcome.kind, **metrics})
    return json.dumps({"results": list(folders), "cells": cells})
