"""launcher=ray on a Ray that each sweep starts here: tasks, workers that die, a sweep that is told to end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.slow import SECONDS
from tests.cluster.sweeps import SLOW, SWEEP, equal, examples, kill, logs, pids, started, wait_until
from tests.runners.conftest import outcome

Run = Callable[..., int]
RAY = ("launcher=ray", "launcher.jobs=2", "launcher.num_cpus=0.5")

pytestmark = pytest.mark.usefixtures("ray_here")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_tasks_compute_what_one_process_does_also_when_a_worker_dies(
    run: Run, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(*SWEEP, *SLOW, "name=whole") == 0
    monkeypatch.setenv(SECONDS, "0.5")
    sweep = started(run, tmp_path / "printed", *SWEEP, *SLOW, *RAY)
    wait_until(lambda: len(pids(out)) == 2 and len(examples(out)) >= 3)
    job = pids(out)[0]
    kill(parent(job))
    wait_until(lambda: is_gone(job))  # its worker is gone
    sweep.join()
    assert sweep.exitcode == 0, (tmp_path / "printed").read_text()
    assert equal(out, "whole")
    first, second = logs(out).values()
    assert first.count("process ") == 2 and second.count("process ") == 1
    assert "Terminated." in first, "it ended in order, and Ray tried the task again"


def test_a_job_that_dies_is_told_and_a_terminated_sweep_leaves_nothing(
    run: Run, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECONDS, "0.5")
    printed = tmp_path / "printed"
    sweep = started(run, printed, *SWEEP, *SLOW, "examples=400", "launcher=ray", "launcher.jobs=1")
    wait_until(lambda: examples(out))
    kill(pids(out)[0])
    wait_until(lambda: len(pids(out)) == 2)
    assert re.search(r"task 1 was killed by SIGKILL.*task 1 goes on with 5 cells", printed.read_text(), re.DOTALL)
    count = len(examples(out))
    wait_until(lambda: len(examples(out)) > count)
    assert sweep.pid is not None
    os.kill(sweep.pid, signal.SIGTERM)
    sweep.join()
    assert sweep.exitcode == 143
    assert is_gone(pids(out)[1])
    assert not list(out.glob("*/lock")) and not outcome(out)
    told = subprocess.run(["ps", "-eo", "ppid,comm"], capture_output=True, text=True, check=True).stdout
    assert not re.search(rf"^ *{sweep.pid} ", told, re.MULTILINE)


def test_what_ray_cannot_give_is_told_in_one_line(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("method=dense", *RAY, "launcher.num_gpus=9") == 2
    assert "launcher.num_gpus=9: this machine has 0." in capfd.readouterr().err.splitlines()


def test_an_address_where_no_ray_is_is_told(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("method=dense", *RAY, "launcher.address=127.0.0.1:1") == 2
    assert "launcher.address=127.0.0.1:1: " in capfd.readouterr().err
