"""What a sweep without a terminal tells."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from mage.errors import UserError
from run import CONF
from runners.composition import compose_sweep
from runners.sweeping.plan import plan_sweep
from runners.sweeping.progress import SweepProgress


def test_a_long_cell_tells_how_far_it_is(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = [f"model.weights={tiny_checkpoint}", "method=dense", "examples=10"]
    (cell,) = plan_sweep(compose_sweep(overrides, CONF, multirun=False)).cells
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    file = io.StringIO()
    progress = SweepProgress(Console(file=file, width=200), [cell], [cell])
    progress.begin([cell])
    progress.expect(cell, 10, 2)
    for clock[0] in (20.0, 40.0, 60.0, 80.0):
        progress.advance(1)
    progress.finished(cell, "score 1.000")
    assert file.getvalue().splitlines() == [
        "[1/1] dense niah ...",
        "[1/1] dense niah: 4/10 examples, about 120 s left",
        "[1/1] dense niah: 6/10 examples, about 80 s left",
        "[1/1] dense niah: score 1.000",
    ]


def test_cells_together_tell_how_far_they_are(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = [f"model.weights={tiny_checkpoint}", "method=dense,quest", "budget=32", "examples=10"]
    cells = plan_sweep(compose_sweep(overrides, CONF, multirun=True)).cells
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    file = io.StringIO()
    progress = SweepProgress(Console(file=file, width=200), cells, cells)
    progress.begin(cells)
    progress.expect(cells[0], 10, 3)
    progress.expect(cells[1], 10, 1)
    clock[0] = 40.0
    progress.advance(4)
    progress.finished(cells[0], "computed by another run")
    assert file.getvalue().splitlines() == [
        "[1-2/2] 2 cells together, from dense niah ...",
        "[1-2/2] 2 cells together, from dense niah: 8/20 examples, about 120 s left",
        "[1/2] dense niah: computed by another run",
    ]


def test_notes_stand_before_the_first_line_and_go_with_an_error(tiny_checkpoint: Path) -> None:
    (cell,) = plan_sweep(
        compose_sweep([f"model.weights={tiny_checkpoint}", "method=dense"], CONF, multirun=False)
    ).cells

    def told(act: Callable[[SweepProgress], None]) -> list[str]:
        file = io.StringIO()
        with suppress(UserError), SweepProgress(Console(file=file, width=200), [cell], [cell]) as progress:
            progress.note("first [bold]")
            assert not file.getvalue()
            act(progress)
            progress.note("last")
        return file.getvalue().splitlines()

    def refuse(progress: SweepProgress) -> None:
        raise UserError("no")

    assert told(lambda progress: progress.begin([cell])) == ["first [bold]", "[1/1] dense niah ...", "last"]
    assert told(lambda progress: progress.say("now")) == ["first [bold]", "now", "last"]
    assert told(lambda progress: None) == ["first [bold]", "last"]
    assert told(refuse) == []


def test_dense_in_a_sweep_over_budgets_is_no_alarm(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-m", "method=dense", "budget=16,32,0.5", "examples=1") == 0
    assert "dense: no budget is used, 1 cell is computed for 3 configs." in capsys.readouterr().out
    assert run("-m", "method=mage,dense", "budget=16,16,32", "examples=1") == 0
    assert "of the configs name a cell again, or differ in nothing" in capsys.readouterr().out
