"""plan=true: what stands, what is to do, how long past records say that it takes; and nothing else happens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import runners.sweeping.workbench
from runners.store.lock import locked

Run = Callable[..., int]
SWEEP = ("-m", "method=mage", "budget=16,32")


@pytest.fixture
def plan(run: Run, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return what a command prints with plan=true."""

    def give(*arguments: str) -> str:
        capsys.readouterr()
        assert run(*arguments, "plan=true") == 0
        return capsys.readouterr().out

    return give


def set_seconds(out: Path, prefill: float, decode: float) -> None:
    """Let every example of an experiment have taken so long."""
    for path in out.glob("*/examples.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["seconds"] = dict.fromkeys(row["seconds"], 0.0) | {"prefill": prefill, "exact": decode}
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_nothing_is_written_or_loaded(plan: Callable[..., str], out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners.sweeping.workbench, "load_model", lambda *a, **k: pytest.fail("the model was loaded"))
    told = plan(*SWEEP)
    assert told.count("to do: 4") == 3
    assert "3 cells: 3 to do. Prefills are shared within 1 group." in told
    assert "No estimate for 3 cells, no past record" in told
    assert not out.parent.exists()


def test_cells_are_told_as_they_stand(run: Run, plan: Callable[..., str], out: Path) -> None:
    assert run(*SWEEP) == 0
    (begun,) = out.glob("tiny-mage-16-*")
    (begun / "record.json").unlink()
    lines = (begun / "examples.jsonl").read_text().splitlines(keepends=True)
    (begun / "examples.jsonl").write_text("".join(lines[:3]))
    assert run("-m", "method=mage", "budget=64", "runner.timeout_s=1e-6", "dense_reference=false") == 1
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    told = plan("-m", "method=mage", "budget=16,32,64,128")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    states = {tuple(line.split()[:4]): line for line in told.splitlines() if "niah" in line}
    assert "begun: 3 of 4" in states["1", "mage", "16", "niah"]
    assert "finished" in states["mage", "32", "niah", "finished"]
    assert "last failed: timeout, 0 of 4" in states["1", "mage", "64", "niah"]
    assert "to do: 4" in states["1", "mage", "128", "niah"]
    assert "5 cells: 2 finished, 1 begun, 1 to do, 1 failed." in told


def test_damage_and_a_live_run_are_told(run: Run, plan: Callable[..., str], out: Path) -> None:
    assert run(*SWEEP) == 0
    (file,) = out.glob("tiny-mage-16-*/examples.jsonl")
    file.write_bytes(file.read_bytes().replace(b"prompt_tokens", b"Prompt_tokens", 1))
    (held,) = out.glob("tiny-mage-32-*")
    (held / "record.json").unlink()
    with locked(held):
        told = plan(*SWEEP)
    states = {tuple(line.split()[:4]): line for line in told.splitlines() if "niah" in line}
    assert "to do: 4" in states["1", "mage", "16", "niah"]
    assert "running: 4 of 4" in states["1", "mage", "32", "niah"]
    assert "3 cells: 1 finished, 1 running, 1 to do." in told


def test_a_prefill_counts_once_and_an_answer_for_each_cell(run: Run, plan: Callable[..., str], out: Path) -> None:
    assert run("-m", "method=mage,quest", "name=past") == 0
    set_seconds(out.parent / "past", prefill=2.0, decode=3.0)
    told = plan("-m", "method=mage,quest")
    assert "About 44.0 s in one process, as past records tell: prefill 8.0 s, decoding 36.0 s, 3 cells." in told
    assert "nearest" not in told and "No estimate" not in told


def test_the_nearest_past_is_taken_and_told(run: Run, plan: Callable[..., str], out: Path) -> None:
    assert run("-m", "method=mage", "budget=16", "name=near", "dense_reference=false") == 0
    assert run("-m", "method=mage", "budget=64", "name=far", "dense_reference=false") == 0
    set_seconds(out.parent / "near", prefill=1.0, decode=1.0)
    set_seconds(out.parent / "far", prefill=1.0, decode=50.0)
    told = plan("-m", "method=mage", "budget=16,24", "dense_reference=false")
    assert "prefill 4.0 s, decoding 8.0 s, 2 cells." in told
    assert "1 of them by the nearest past, which had another method, budget or options." in told


@pytest.mark.parametrize("other", ["task.lengths=[256]", "model.dtype=bfloat16", "decoding.tokens_per_step=2"])
def test_what_has_no_past_is_counted_and_not_guessed(other: str, run: Run, plan: Callable[..., str]) -> None:
    assert run("method=mage") == 0
    told = plan("method=mage", other)
    assert "About" not in told
    assert "No estimate for 2 cells" in told


def test_a_task_s_own_number_of_examples_is_told(plan: Callable[..., str]) -> None:
    assert "to do: 40" in plan("method=dense", "examples=null")


def test_a_runner_without_cells_has_no_plan(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("runner=fetch", "plan=true") == 2
    told = capfd.readouterr().err
    assert told.startswith("plan=true: runner=fetch has no cells.") and len(told.splitlines()) == 1
