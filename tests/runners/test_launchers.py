"""Launchers: processes for real, and what becomes of jobs that die, are told to end, or find others at their cells."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import runners.launchers.supervisor as supervisor
from runners.cell import Cell
from runners.evaluate import Evaluate
from runners.launchers.jobs import Crew, End, Job
from runners.launchers.processes import Processes, ended
from runners.store.lock import locked
from runners.sweeping.job import run_part
from tests.runners.conftest import outcome
from tests.runners.processes import fork
from tests.runners.test_interruption import strip_experiment
from tests.runners.test_launcher_parts import TOLD

Run = Callable[..., int]
SWEEP = ("-m", "method=mage,quest", "budget=16,32", "model.threads=1")
JOBS = ("launcher=processes", "launcher.jobs=2")
LONG = ("method=dense", "examples=1000", "launcher=processes", "launcher.jobs=1")


class ForkedJob(Job):
    """A job that is forked from the test: it starts at once, and has what the test has patched."""

    def __init__(self, part: Path) -> None:
        self.title, self.log = f"job {part.stem}", part.with_suffix(".log")

        def work() -> int:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            with self.log.open("a", buffering=1) as sys.stdout:
                return run_part(part)

        self.child = fork(work)

    def end(self) -> End | None:
        return ended(self.child.exitcode)


class ForkedCrew(Crew):
    poll_s = 0.01

    def __init__(self) -> None:
        self.jobs: list[ForkedJob] = []

    def start(self, parts: Sequence[Path]) -> list[Job]:
        started = [ForkedJob(part) for part in parts]
        self.jobs += started
        return list(started)

    def stop(self) -> None:
        for job in self.jobs:
            job.child.terminate()
            job.child.join()


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> ForkedCrew:
    """The crew that launcher=processes then has."""
    crew = ForkedCrew()
    monkeypatch.setattr(Processes, "crew", lambda *_: crew)
    return crew


def dying(monkeypatch: pytest.MonkeyPatch, when: Callable[[Cell, str], bool]) -> None:
    """Let the process of a job be killed before it computes an example for which `when` holds."""
    compute, parent = Evaluate.compute, os.getpid()

    def deadly(self: Evaluate, cell: Any, bench: Any, questions: Sequence[Any]) -> list[BaseModel]:
        if os.getpid() != parent and when(cell, questions[0].example.id):
            os.kill(os.getpid(), signal.SIGKILL)
        return compute(self, cell, bench, questions)

    monkeypatch.setattr(Evaluate, "compute", deadly)


def once(path: Path) -> bool:
    """Whether this is the first time that somebody asks."""
    try:
        path.open("x").close()
    except FileExistsError:
        return False
    return True


def logs(out: Path) -> list[str]:
    return [path.read_text() for path in sorted(out.glob(".jobs/*/*.log"))]


def pid_of(out: Path) -> int:
    """The process that the log of the only job names, once it has written an example."""
    while not list(out.glob("*/examples.jsonl")):
        time.sleep(0.01)
    (log,) = logs(out)
    found = re.search(r"process (\d+)", log)
    assert found is not None
    return int(found[1])


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_processes_compute_what_one_does_each_with_its_own_device(
    run: Run, out: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(*SWEEP, "name=whole") == 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    capfd.readouterr()
    assert run(*SWEEP, "launcher=processes", "launcher.devices=[GPU-7,4]") == 0
    assert strip_experiment(outcome(out)) == strip_experiment(outcome(out.parent / "whole"))
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    found = [re.search(r"CUDA_VISIBLE_DEVICES=(\S+), OMP_NUM_THREADS=(\d+)", log) for log in logs(out)]
    assert [match and match.groups() for match in found] == [("GPU-7", str(share)), ("4", str(share))]
    cells = [set(re.findall(r"\] (\S+ \S+) niah:", log)) for log in logs(out)]
    assert set.intersection(*cells) == set(), "no cell is given to both"
    assert "5 cells computed" in capfd.readouterr().out


def test_a_job_ends_in_order_with_a_sweep_that_is_terminated(run: Run, out: Path) -> None:
    sweep = fork(lambda: run(*LONG))
    job = pid_of(out)
    assert sweep.pid is not None
    os.kill(sweep.pid, signal.SIGTERM)
    sweep.join()
    assert sweep.exitcode == 143
    assert not is_running(job)
    assert "Terminated." in logs(out)[0]
    assert not {path.name for path in out.glob("tiny*/*")} & {"lock", "record.json"}


def test_no_job_outlives_a_sweep_that_is_killed(run: Run, out: Path) -> None:
    sweep = fork(lambda: run(*LONG))
    job = pid_of(out)
    sweep.kill()
    sweep.join()
    while is_running(job):
        time.sleep(0.01)
    assert "Terminated." in logs(out)[0]


def test_a_tracker_is_opened_when_the_jobs_have_started(
    run: Run, forked: ForkedCrew, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("method=dense", *JOBS, TOLD) == 0
    assert capsys.readouterr().out.startswith("tracker: t is shown\n[1/1] 1 cell in 1 job ...\njob 1; logs: ")


def test_a_job_that_is_killed_goes_on_where_it_was(
    run: Run,
    out: Path,
    forked: ForkedCrew,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    assert run(*SWEEP, "name=whole") == 0
    dying(monkeypatch, lambda cell, example: cell.labels.method == "quest" and once(tmp_path / "died"))
    assert run(*SWEEP, *JOBS) == 0
    assert len(forked.jobs) == 3
    assert strip_experiment(outcome(out)) == strip_experiment(outcome(out.parent / "whole"))
    printed = capsys.readouterr().out
    assert re.search(r"job \d was killed by SIGKILL. The last lines of \S+/\d.log:\n +process \d+", printed)
    assert re.search(r"job \d goes on with \d cells?\.", printed)


def test_a_cell_that_kills_its_job_twice_is_given_up_and_the_others_go_on(
    run: Run, out: Path, forked: ForkedCrew, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dying(monkeypatch, lambda cell, example: cell.labels.method == "quest" and cell.labels.budget == 16)
    assert run(*SWEEP, "launcher=processes", "launcher.jobs=1") == 1
    assert len(forked.jobs) == 3
    done = outcome(out)
    assert len(done) == 4 and not any("quest-16" in name for name in done)
    printed = capsys.readouterr().out
    assert "quest 16 niah: given up, its job died there 2 times." in printed
    assert "4 cells computed, 0 were finished before, 1 unfinished" in printed
    assert "job 1 was killed by SIGKILL, see" in printed


def test_a_part_whose_every_cell_kills_its_job_is_given_up(
    run: Run, out: Path, forked: ForkedCrew, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying(monkeypatch, lambda cell, example: True)
    assert run(*SWEEP, "launcher=processes", "launcher.jobs=1") == 1
    assert len(forked.jobs) == supervisor.TRIES * supervisor.SPOILT
    assert not outcome(out)


def test_a_job_that_is_refused_is_told_and_not_tried_again(
    run: Run, forked: ForkedCrew, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(part: Path) -> int:
        print("weights changed")
        return 2

    monkeypatch.setattr("tests.runners.test_launchers.run_part", refused)
    assert run("method=dense", *JOBS) == 1
    assert len(forked.jobs) == 1
    printed = capsys.readouterr().out
    assert re.search(r"job 1 ended with status 2. The last lines of \S+1.log:\n.*weights changed", printed, re.DOTALL)
    assert "1 unfinished" in printed


def test_a_failure_stops_all_jobs_where_that_is_asked_for(
    run: Run, out: Path, forked: ForkedCrew, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compute = Evaluate.compute

    def failing(self: Evaluate, cell: Any, bench: Any, questions: Sequence[Any]) -> list[BaseModel]:
        if cell.labels.method == "dense":
            raise ValueError("no")
        if cell.labels.method == "quest":  # in the other job
            signal.pause()
        return compute(self, cell, bench, questions)

    monkeypatch.setattr(Evaluate, "compute", failing)
    assert run("-m", "method=dense,quest", *JOBS, "runner.on_error=stop") == 1
    printed = capsys.readouterr().out
    assert printed.count("runner.on_error=stop: the sweep ends here") == 1
    assert "1 failed (error: 1), 1 unfinished" in printed


def test_jobs_that_wait_for_another_run_say_so_and_find_its_results(
    run: Run, out: Path, forked: ForkedCrew, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(supervisor, "QUIET_S", 0.0)
    assert run("method=dense", "name=whole") == 0
    (whole,) = (out.parent / "whole").glob("tiny*")
    folder = out / whole.name

    def release() -> None:
        with locked(folder):
            held.set()
            until = time.monotonic() + 60
            while not any("waiting for 1 cell of another run" in log for log in logs(out)):
                if time.monotonic() > until:
                    break
                time.sleep(0.01)
            time.sleep(0.1)

    held = threading.Event()
    other = threading.Thread(target=release)
    other.start()
    held.wait()
    assert run("method=dense", *JOBS) == 0
    other.join()
    told = rf"job 1: waiting for 1 cell of another run: held by process {os.getpid()}"
    assert re.search(told, capsys.readouterr().out)
