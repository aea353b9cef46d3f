"""What goes wrong in a sweep: a cell that fails has a typed status, and the others are computed."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel

import runners.environment
import runners.sweeping.sweep
import runners.sweeping.work
import runners.sweeping.workbench
from mage.errors import UserError
from runners.evaluate import Evaluate
from runners.sweeping.ending import failure
from runners.sweeping.limits import CellTimeoutError
from tests.runners.conftest import records, write_tiny_checkpoint

Run = Callable[..., int]


def fail_on(monkeypatch: pytest.MonkeyPatch, method: str, error: Exception, after: int = 0) -> None:
    """Let cells of `method` raise `error` after that many examples."""
    compute = Evaluate.compute
    seen = 0

    def failing(self: Evaluate, cell: Any, bench: Any, questions: Sequence[Any]) -> list[BaseModel]:
        nonlocal seen
        if cell.labels.method == method:
            seen += 1
            if seen > after:
                raise error
        return compute(self, cell, bench, questions)

    monkeypatch.setattr(Evaluate, "compute", failing)


def test_a_cell_that_fails_is_typed_and_the_sweep_goes_on(
    run: Run, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_on(monkeypatch, "mage", MemoryError("no memory"), after=2)
    assert run("-m", "method=mage,quest") == 1
    found = records(out)
    failed = found.pop("mage-16")
    assert failed.status == "out_of_memory" and failed.metrics == {}
    assert failed.error == "MemoryError: no memory"
    assert failed.examples is not None and failed.examples.count == 2
    assert {record.status for record in found.values()} == {"done"}
    assert f"failed: {failed.name}: out_of_memory" in capsys.readouterr().out

    monkeypatch.undo()
    assert run("-m", "method=mage,quest") == 0
    assert records(out)["mage-16"].metrics["examples"] == 4


@pytest.mark.parametrize(
    ("problem", "status"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (MemoryError("no memory"), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"), "out_of_memory"),
        (RuntimeError("CUDA error: out of memory"), "out_of_memory"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "error"),
        (AssertionError("Torch not compiled with CUDA enabled"), "error"),
        (ZeroDivisionError("division by zero"), "error"),
        (UserError("max_new_tokens=0 is out of range."), "invalid_config"),
        (CellTimeoutError("the cell took longer than runner.timeout_s=9"), "timeout"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_stops_a_cell_is_typed(problem: Exception, status: str) -> None:
    ending = failure(problem)
    assert ending.status == status and ending.metrics == {}
    assert ending.error is not None and str(problem) in ending.error
    assert (type(problem).__name__ in ending.error) == (status in ("error", "out_of_memory"))


def test_a_misshapen_checkpoint_refuses_the_sweep(
    run: Run, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = change_config(write_tiny_checkpoint(tmp_path / "odd", seed=1), intermediate_size=40)
    whole = write_tiny_checkpoint(tmp_path / "whole")
    assert run("-m", f"model.weights={whole},{odd}", "method=dense,mage") == 2
    assert "has shape" in capsys.readouterr().err and not out.exists()


def test_trouble_while_loading_fails_one_cell(run: Run, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load, loads = runners.sweeping.workbench.load_model, []

    def fail_once(*arguments: Any, **options: Any) -> Any:
        loads.append(arguments)
        if len(loads) == 1:
            raise AssertionError("Torch not compiled with CUDA enabled")
        return load(*arguments, **options)

    monkeypatch.setattr(runners.sweeping.workbench, "load_model", fail_once)
    assert run("-m", "method=dense,mage") == 1
    assert {name: record.status for name, record in records(out).items()} == {"dense-all": "error", "mage-16": "done"}


def test_on_error_stop_ends_the_sweep_and_keeps_what_is_computed(
    run: Run, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_on(monkeypatch, "mage", ZeroDivisionError(), after=2)
    assert run("method=mage", "runner.on_error=stop") == 1
    assert {name: record.status for name, record in records(out).items()} == {"mage-16": "error"}
    assert "1 unfinished" in capsys.readouterr().out
    stood = {path: path.read_bytes() for path in out.glob("*/examples.jsonl")}
    assert len(stood) == 2 and not list(out.glob("*/lock"))
    monkeypatch.undo()
    assert run("method=mage") == 0
    assert {record.status for record in records(out).values()} == {"done"} and len(records(out)) == 2
    assert all(path.read_bytes().startswith(lines) for path, lines in stood.items()), "lines that stood are kept"


def test_a_cell_over_its_time_keeps_what_it_has(run: Run, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute, seen = Evaluate.compute, []

    def slow(self: Evaluate, cell: Any, bench: Any, questions: Sequence[Any]) -> list[BaseModel]:
        seen.append(questions)
        if len(seen) == 3:
            signal.raise_signal(signal.SIGALRM)  # what the timer does after timeout_s
        return compute(self, cell, bench, questions)

    monkeypatch.setattr(Evaluate, "compute", slow)
    assert run("method=dense", "runner.timeout_s=900") == 1
    (record,) = records(out).values()
    assert record.status == "timeout" and "runner.timeout_s=900" in (record.error or "")
    assert record.examples is not None and record.examples.count == 2


def test_the_timer_reaches_a_cell(run: Run, out: Path) -> None:
    assert run("method=dense", "runner.timeout_s=0.0001") == 1
    assert next(iter(records(out).values())).status == "timeout"


def change_config(checkpoint: Path, **changes: object) -> Path:
    file = checkpoint / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return checkpoint


def test_a_prompt_that_cannot_be_cut_to_the_model_is_refused(
    run: Run, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = change_config(write_tiny_checkpoint(tmp_path / "short"), max_position_embeddings=32)
    fields = ("task.lengths=[32]", "task.needles=1", "task.asked=1")  # the context fits, the question does not
    assert run("method=dense", f"model.weights={short}", *fields) == 2
    assert "max_positions=32" in capsys.readouterr().err and not out.exists()


def test_cut_prompts_are_told(run: Run, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("method=dense") == 0
    assert "truncated" not in capsys.readouterr().out
    short = change_config(write_tiny_checkpoint(tmp_path / "short"), max_position_embeddings=128)
    assert run("method=dense", f"model.weights={short}", "name=cut") == 0
    (record,) = records(out.parent / "cut").values()
    assert record.metrics["truncated_examples"] == 4
    printed = capsys.readouterr().out
    assert "truncated: prompts that were cut" in printed and "task.max_prompt_tokens" in printed and "4.000" in printed


def test_examples_of_another_commit_are_told(
    run: Run, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for letter in "ab":
        with monkeypatch.context() as patch:
            for module in (runners.environment, runners.sweeping.sweep, runners.sweeping.work):
                patch.setattr(module, "git_state", lambda letter=letter: (letter * 40, False))
            if letter == "a":
                fail_on(patch, "dense", ZeroDivisionError(), after=2)
            assert run("method=dense") == (letter == "a")
    printed = " ".join(capsys.readouterr().out.split())
    assert "2 of 4 examples stand, computed by commit aaaaaaaa; this is bbbbbbbb" in printed
    (record,) = records(out).values()
    assert (record.environment.git_commit, record.environment.earlier_commits) == ("b" * 40, ["a" * 40])
