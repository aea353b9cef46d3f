"""The worker: what cells of a group share, and what one of them cannot do to the others."""

from __future__ import annotations

import io
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from rich.console import Console

import runners.sweeping.workbench
from mage.generation.engine import Engine
from run import CONF
from runners.cell import Cell
from runners.composition import compose_sweep
from runners.evaluate import Evaluate
from runners.store.lock import locked
from runners.sweeping.audience import Audience
from runners.sweeping.outcome import Outcome
from runners.sweeping.plan import plan_sweep
from runners.sweeping.progress import SweepProgress
from runners.sweeping.worker import Worker
from runners.tracking.tracker import NoTracker
from tests.runners.conftest import ROOT, records

Run = Callable[..., int]
SWEEP = ("-m", "method=mage,quest", "budget=16,32")
Compute = Callable[[Cell], None]


def planned(small: list[str], *overrides: str) -> list[Cell]:
    named = [override.split("=")[0] for override in overrides]
    kept = [override for override in small if override.split("=")[0] not in named]
    return plan_sweep(compose_sweep([*kept, *overrides], CONF, multirun=True)).cells


def work(cells: list[Cell]) -> tuple[dict[str, Outcome], SweepProgress]:
    """Have a worker compute the cells; return the outcomes by method, and the progress that it told."""
    outcomes: dict[str, Outcome] = {}
    with SweepProgress(Console(file=io.StringIO()), cells, cells) as progress:
        audience = Audience(NoTracker(), progress, lambda o: outcomes.update({o.cell.labels.method: o}))
        Worker(cells, audience).run()
    return outcomes, progress


def before_each(monkeypatch: pytest.MonkeyPatch, act: Compute) -> None:
    """Have `act` do something before each group of examples of a cell."""
    compute = Evaluate.compute

    def acting(self: Evaluate, cell: Any, bench: Any, questions: Sequence[Any]) -> list[BaseModel]:
        act(cell)
        return compute(self, cell, bench, questions)

    monkeypatch.setattr(Evaluate, "compute", acting)


def test_time_that_cells_share_is_nobodys(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    prefill, load, shared = Engine.prefill, runners.sweeping.workbench.load_model, []

    def slow(made: Callable[..., Any]) -> Callable[..., Any]:
        def slowly(*arguments: Any, **options: Any) -> Any:
            shared.append(made)
            time.sleep(0.6)
            return made(*arguments, **options)

        return slowly

    monkeypatch.setattr(Engine, "prefill", slow(prefill))
    monkeypatch.setattr(runners.sweeping.workbench, "load_model", slow(load))
    before_each(monkeypatch, lambda cell: time.sleep(0.3))
    cells = planned(small, "method=mage,quest", "examples=1", "runner.timeout_s=0.8", "dense_reference=false")
    outcomes, _ = work(cells)
    assert {method: outcome.kind for method, outcome in outcomes.items()} == {"mage": "done", "quest": "done"}
    assert shared == [load, prefill]


def test_a_prefill_that_hangs_meets_the_limit(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "prefill", lambda *a, **k: time.sleep(60))
    outcomes, _ = work(planned(small, "method=mage", "runner.timeout_s=0.3", "dense_reference=false"))
    assert outcomes["mage"].kind == "timeout"


def test_an_exhausted_cell_leaves_nothing_in_memory(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[weakref.ref[torch.Tensor]] = []
    alive: list[bool] = []

    def exhaust(cell: Cell) -> None:
        if cell.labels.method == "quest":
            alive.append(left[0]() is not None)
        if cell.labels.method == "mage" and not left:
            large = torch.zeros(1000)
            left.append(weakref.ref(large))
            raise torch.OutOfMemoryError("out of memory")

    before_each(monkeypatch, exhaust)
    outcomes, _ = work(planned(small, "method=mage,quest", "dense_reference=false"))
    assert outcomes["mage"].kind == "out_of_memory" and outcomes["quest"].kind == "done"
    assert alive == [False] * 4


@pytest.mark.parametrize("trouble", ["caf\udce9.txt is not a file", "nan"])
def test_what_no_record_can_hold_ends_one_cell(trouble: str, small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if trouble == "nan":
        whole = Evaluate.summarise
        monkeypatch.setattr(Evaluate, "summarise", lambda self, rows: whole(self, rows) | {"score": float("nan")})
    else:
        before_each(monkeypatch, lambda cell: (_ for _ in ()).throw(OSError(trouble)))
    outcomes, _ = work(planned(small, "method=mage", "dense_reference=false"))
    record = outcomes["mage"].record
    assert record is not None and record.status == "error"
    assert ("caf\\udce9.txt" if trouble != "nan" else "the metric score is nan") in str(record.error)


def test_a_body_serves_every_block_size(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    load, loads = runners.sweeping.workbench.load_model, []
    monkeypatch.setattr(runners.sweeping.workbench, "load_model", lambda *a, **k: loads.append(1) or load(*a, **k))
    assert run("-m", "method=dense", "model.block_size=4,8,16", "examples=1") == 0
    assert loads == [1]


def test_what_failed_elsewhere_meanwhile_is_not_tried_again(
    run: Run, out: Path, small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def fail(cell: Cell) -> None:
        tried.append(cell.labels.method)
        if cell.labels.method == "mage":
            raise ZeroDivisionError

    before_each(monkeypatch, fail)
    assert run("method=mage", "dense_reference=false") == 1
    (path,) = out.glob("*/record.json")
    failed = path.read_bytes()
    tried.clear()
    with ExitStack() as other:
        other.enter_context(locked(path.parent))

        def nap(seconds: float) -> None:  # what the other process does: it tries the cell again, and fails
            path.unlink(missing_ok=True)
            path.write_bytes(failed)
            other.close()

        monkeypatch.setattr(time, "sleep", nap)
        assert run("-m", "method=mage,quest") == 1
    assert "mage" not in tried and tried.count("quest") == 4
    tried.clear()
    assert run("method=mage", "dense_reference=false") == 1
    assert tried == ["mage"], "the next command tries it"


def test_what_a_cell_leaves_undone_is_no_more_to_do(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(cell: Cell) -> None:
        if cell.labels.method == "mage":
            raise ZeroDivisionError

    before_each(monkeypatch, fail)
    cells = planned(small, "method=mage,quest", "dense_reference=false")
    outcomes, progress = work(cells)
    assert outcomes["mage"].kind == "error"
    (bar,) = progress._bar.tasks
    assert (bar.completed, bar.total) == (4, 4)


@pytest.mark.parametrize(
    "field", ["output_dir=x,y", "tracker=none,wandb", "launcher=local,processes", "plan=true,false"]
)
def test_what_a_sweep_has_one_of_cannot_be_swept(
    field: str, run: Run, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("-m", "method=mage", field) == 2
    assert f"{field.split('=')[0]}: the configs of a sweep differ in it." in capsys.readouterr().err
    assert not out.exists() and not records(out)


def test_a_reader_that_goes_costs_nothing(tiny_checkpoint: Path, small: list[str], out: Path) -> None:
    code = "import sys; from run import CONF, main; from runners.command import command_line as c; "
    given = [*small, "method=dense"]
    command = [sys.executable, "-c", f"{code}sys.exit(c({given!r}, CONF, main))"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        child.stdout.close()
    assert child.returncode == 0
    assert [record.status for record in records(out).values()] == ["done"]


def test_what_the_end_of_a_sweep_left_is_told_so(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before_each(monkeypatch, lambda cell: (_ for _ in ()).throw(ZeroDivisionError()))
    assert run("-m", "method=mage,quest", "runner.on_error=stop") == 1
    printed = capsys.readouterr().out
    assert "unfinished: " in printed and "the sweep ended before it" in printed


@pytest.mark.parametrize("plan", ["true", "false"])
def test_a_launcher_without_its_device_is_refused_before_the_plan(
    plan: str, run: Run, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("method=mage", "launcher=processes", "launcher.devices=[7]", f"plan={plan}") == 2
    assert "7 is not visible" in capsys.readouterr().err and not out.exists()
