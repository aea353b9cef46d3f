"""Kills, signals and several processes: at most the example in flight is lost, and nothing is computed twice."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from runners.evaluate import Evaluate
from runners.store.store import Store
from tests.runners.conftest import outcome
from tests.runners.kills import kill_repeatedly
from tests.runners.processes import fork

Run = Callable[..., int]
SWEEP = ("-m", "method=mage,quest", "budget=16,32", "examples=12")


def test_killed_and_resumed_equals_undisturbed(run: Run, out: Path) -> None:
    assert run(*SWEEP, "name=whole") == 0
    counted = kill_repeatedly(lambda: run(*SWEEP, "name=t"), out, count=20, longest_s=0.4)
    assert counted.kills > 2
    assert counted.lost == counted.invalid == 0
    assert strip_experiment(outcome(out)) == strip_experiment(outcome(out.parent / "whole"))


def strip_experiment(found: dict[str, Any]) -> dict[str, Any]:
    return {name: {k: v for k, v in told.items() if k != "experiment"} for name, told in found.items()}


def test_a_kill_costs_one_example(run: Run, out: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    computed = log_computed(monkeypatch, tmp_path / "computed")
    append = Store.append

    def die_before_the_fifth(self: Store, rows: Sequence[BaseModel]) -> None:
        if len(computed()) == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        append(self, rows)

    monkeypatch.setattr(Store, "append", die_before_the_fifth)
    child = fork(lambda: run("method=dense", "examples=8"))
    child.join()
    assert child.exitcode == -signal.SIGKILL
    monkeypatch.setattr(Store, "append", append)
    assert run("method=dense", "examples=8") == 0
    counts = Counter(computed())
    assert sorted(counts.values()) == [1] * 7 + [2]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_in_order_and_the_same_command_continues(
    number: signal.Signals, status: int, run: Run, out: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    computed = log_computed(monkeypatch, tmp_path / "computed")
    child = fork(lambda: run("method=dense", "examples=1000"))
    while len(computed()) < 3:
        time.sleep(0.002)
    assert child.pid is not None
    os.kill(child.pid, number)
    child.join()
    assert child.exitcode == status
    assert sorted(path.name for path in out.glob("*/*")) == ["checksums", "examples.jsonl"], (
        "no lock and no record stay"
    )


def test_four_processes_compute_each_cell_once(
    run: Run, out: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    computed = log_computed(monkeypatch, tmp_path / "computed")
    meet(monkeypatch, 4)
    # Each length is a group that shares its prefills: all four processes are at work at once.
    four_groups = (*SWEEP, "task.lengths=[128],[160],[192],[224]", "examples=6")
    children = [fork(lambda: run(*four_groups)) for _ in range(4)]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    assert len(outcome(out)) == 20
    assert Counter(computed()) == dict.fromkeys(computed(), 1)
    assert len(computed()) == 20 * 6


def test_a_cell_of_a_process_that_dies_is_taken_over(run: Run, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute = Evaluate.compute
    parent = os.getpid()

    def stuck_in_the_child(self: Evaluate, cell: Any, bench: Any, questions: Sequence[Any]) -> list[BaseModel]:
        if os.getpid() != parent and cell.labels.method == "mage":
            (out / "stuck").touch()
            signal.pause()
        return compute(self, cell, bench, questions)

    monkeypatch.setattr(Evaluate, "compute", stuck_in_the_child)
    child = fork(lambda: run(*SWEEP))
    while not (out / "stuck").exists():
        time.sleep(0.002)
    sleep, naps = time.sleep, 0

    def nap(seconds: float) -> None:  # the sweep waits for the child's cell: let the child die meanwhile
        nonlocal naps
        naps += 1
        child.kill()
        child.join()
        sleep(0)

    monkeypatch.setattr(time, "sleep", nap)
    assert run(*SWEEP) == 0
    assert naps > 0
    assert len(outcome(out)) == 5


def meet(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let processes go on with their first example when so many have come to one; where they do not, the cell fails."""
    compute, barrier, met = Evaluate.compute, multiprocessing.get_context("fork").Barrier(count), set[int]()

    def waiting(self: Evaluate, cell: Any, bench: Any, questions: Sequence[Any]) -> list[BaseModel]:
        if os.getpid() not in met:
            met.add(os.getpid())
            barrier.wait(60)
        return compute(self, cell, bench, questions)

    monkeypatch.setattr(Evaluate, "compute", waiting)


def log_computed(monkeypatch: pytest.MonkeyPatch, path: Path) -> Callable[[], list[str]]:
    """Note every computed example of every process in a file; return what reads it."""
    compute = Evaluate.compute

    def noting(self: Evaluate, cell: Any, bench: Any, questions: Sequence[Any]) -> list[BaseModel]:
        rows = compute(self, cell, bench, questions)
        with path.open("a") as file:
            file.write("".join(f"{cell.identity}/{question.example.id}\n" for question in questions))
        return rows

    monkeypatch.setattr(Evaluate, "compute", noting)
    return lambda: path.read_text().splitlines() if path.exists() else []
