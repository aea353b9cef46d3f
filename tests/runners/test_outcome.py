"""What closes a sweep: tables that stay readable, failures once each, counts by kind, the command that tries again."""

from __future__ import annotations

import io
import shlex
from collections.abc import Sequence

import pytest
import torch
from rich.console import Console

from run import CONF
from runners.cell import Cell
from runners.composition import compose_sweep
from runners.environment import describe, now
from runners.record import CellRecord, ExamplesFile, Status
from runners.sweeping.outcome import Outcome, command, counted, exit_status, show
from runners.sweeping.plan import plan_sweep


@pytest.fixture
def cells(small: list[str]) -> list[Cell]:
    return planned(small, "method=mage,quest", "budget=16,32")


def planned(small: list[str], *swept: str) -> list[Cell]:
    return plan_sweep(compose_sweep([*small, *swept], CONF, multirun=True)).cells


def record(cell: Cell, status: Status = "done", error: str | None = None, **metrics: float) -> CellRecord:
    return CellRecord(
        identity=cell.identity,
        name=cell.name,
        experiment=cell.settings.name,
        status=status,
        error=error,
        labels=cell.labels,
        config=cell.config,
        environment=describe(torch.device("cpu"), now(), "torch", capture=False),
        metrics=metrics,
        examples=ExamplesFile(count=4, sha256="0" * 64),
    )


def printed(outcomes: Sequence[Outcome], arguments: Sequence[str] = ()) -> list[str]:
    text = io.StringIO()
    show(Console(file=text, width=120), outcomes, arguments)
    return text.getvalue().splitlines()


def test_cells_are_counted_by_what_became_of_them(cells: list[Cell]) -> None:
    dense, *others = cells
    outcomes = [
        Outcome(dense, record(dense), computed=False),
        Outcome(others[0], record(others[0]), computed=True),
        Outcome(others[1], record(others[1], "out_of_memory", "x"), computed=True),
        Outcome(others[2], record(others[2], "timeout", "x"), computed=True),
        Outcome(others[3], None, computed=False),
    ]
    told = "1 cell computed, 1 were finished before, 2 failed (out_of_memory: 1, timeout: 1), 1 unfinished."
    assert counted(outcomes) == told
    assert exit_status(outcomes) == 1
    assert exit_status(outcomes[:2]) == 0
    assert "failed" not in counted(outcomes[:2])


def test_each_failure_is_one_line_and_a_hole(cells: list[Cell]) -> None:
    trace = f"Traceback (most recent call last):\n  File x\nValueError: [b]bad[/b] {'x' * 400}"
    outcomes = [Outcome(cells[0], record(cells[0], score=0.5), computed=True)]
    outcomes += [Outcome(cell, record(cell, "error", trace), computed=True) for cell in cells[1:]]
    lines = printed(outcomes)
    for cell in cells[1:]:
        (line,) = [line for line in lines if cell.name in line]
        assert line.startswith(f"failed: {cell.name}: error: ValueError: [b]bad[/b] xxx") and len(line) < 400
    assert sum("0.500" in line for line in lines) == 1
    assert not any("Traceback" in line for line in lines)


def test_cells_that_one_reason_left_unfinished_are_told_together(cells: list[Cell]) -> None:
    outcomes = [Outcome(cell, None, computed=False, note="its job ended with status 137") for cell in cells[:-1]]
    outcomes.append(Outcome(cells[-1], None, computed=False))
    told = [line for line in printed(outcomes) if line.startswith("unfinished: ")]
    assert len(told) == 2
    assert "and 1 more: its job ended with status 137" in told[0]
    assert told[1] == f"unfinished: {cells[-1].name}: no message"


def test_the_command_that_tries_again_is_told_where_something_is_not_done(cells: list[Cell]) -> None:
    arguments = ["run.py", "-m", "task.lengths=[128, 256]", "+experiment=demo"]
    assert shlex.split(command(arguments)) == ["python", *arguments]
    done = [Outcome(cell, record(cell), computed=True) for cell in cells]
    assert not any("The same command" in line for line in printed(done, arguments))
    failed = [*done[:-1], Outcome(cells[-1], record(cells[-1], "timeout", "x"), computed=True)]
    assert printed(failed, arguments)[-1].endswith(command(arguments))


def test_many_cells_of_many_tasks_are_told_in_few_lines(small: list[str]) -> None:
    general = [s for s in small if not s.startswith(("task.needles", "task.asked", "task.lengths"))]
    tasks = ("niah", "niah_grid", "multi_value", "aggregation", "kv_retrieval", "pointer_chase")
    cells = planned(
        [*general, "dense_reference=false"],
        "method=mage,random",
        "budget=16,32,64,128,256,512",
        f"task={','.join(tasks)}",
    )
    assert len(cells) == 72
    outcomes = [Outcome(cell, record(cell, score=n / 1000), computed=True) for n, cell in enumerate(cells)]
    lines = printed(outcomes)
    assert len(lines) < 40
    for n, outcome in enumerate(outcomes):
        method, budget, _ = outcome.cell.shown
        assert any(line.split()[:2] == [method, budget] and f"{n / 1000:.3f}" in line for line in lines)
    assert len([line for line in printed(outcomes[:12]) if line.strip().startswith(("mage", "random"))]) == 12
