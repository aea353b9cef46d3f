"""launcher=slurm on a real Slurm of one node: arrays, GPUs, preemption, time limits, cancelled and killed jobs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runners.launchers.slurm import SlurmCrew, end_when_not_requeued
from tests.cluster.slow import SECONDS
from tests.cluster.sweeps import SLOW, SWEEP, equal, examples, kill, logs, pids, started, wait_until
from tests.runners.conftest import outcome

Run = Callable[..., int]
SLURM = ("launcher=slurm", "launcher.jobs=2")

pytestmark = pytest.mark.usefixtures("slurm")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SlurmCrew, "poll_s", 0.5)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def numbers(printed: str) -> list[str]:
    """The Slurm jobs that a sweep tells of when it has started them."""
    found = re.search(r"Slurm job (\S+?)(?: to Slurm job (\S+))?; logs", printed)
    assert found is not None, printed
    return [number for number in found.groups() if number]


def scontrol(*arguments: str) -> str:
    return subprocess.run(["scontrol", *arguments], check=True, capture_output=True, text=True).stdout


def test_an_array_computes_what_one_process_does_each_job_with_its_own_gpu(
    run: Run, out: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(*SWEEP, *SLOW, "name=whole") == 0
    monkeypatch.setenv(SECONDS, "1")  # both jobs are at work at a time
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert run(*SWEEP, *SLOW, *SLURM, "launcher.gpus=1") == 0
    assert equal(out, "whole")
    assert re.match(r"(\d+)_0 \1_1$", " ".join(numbers(capfd.readouterr().out))), "one array"
    devices = [re.findall(r"CUDA_VISIBLE_DEVICES=(\d+)", log) for log in logs(out).values()]
    assert sorted(devices) == [["0"], ["1"]]


def test_a_preempted_job_goes_on_where_it_was(
    run: Run, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(*SWEEP, *SLOW, "name=whole") == 0
    monkeypatch.setenv(SECONDS, "1")
    sweep = started(run, tmp_path / "printed", *SWEEP, *SLOW, *SLURM)
    wait_until(lambda: len(examples(out)) >= 3)
    before = {path: path.read_bytes() for path in out.glob("*/examples.jsonl")}
    for number in numbers((tmp_path / "printed").read_text()):
        scontrol("requeue", number)
    sweep.join()
    assert sweep.exitcode == 0
    assert equal(out, "whole")
    for path, content in before.items():
        assert path.read_bytes().startswith(content[: content.rfind(b"\n") + 1]), "an example was lost"
    assert [log.count("process ") for log in logs(out).values()] == [2, 2]
    assert "Slurm jobs wait: BeginTime" in (tmp_path / "printed").read_text()


@pytest.mark.skipif("MAGE_TEST_MINUTES" not in os.environ, reason="takes minutes: `make test-cluster` runs it")
def test_a_job_that_is_out_of_time_is_requeued_and_goes_on(
    run: Run, out: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("method=dense", *SLOW, "examples=16", "name=whole") == 0
    monkeypatch.setenv(SECONDS, "4")
    assert run("method=dense", *SLOW, "examples=16", *SLURM, "launcher.timeout_min=1") == 0
    assert equal(out, "whole")
    (log,) = logs(out).values()
    assert log.count("Requeued job") == log.count("process ") - 1 >= 1
    assert len(examples(out)) == 16


def test_a_cancelled_job_is_told_and_costs_no_other(
    run: Run, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECONDS, "1")
    printed = tmp_path / "printed"
    sweep = started(run, printed, *SWEEP, *SLOW, *SLURM)
    wait_until(lambda: len(pids(out)) == 2)
    number = numbers(printed.read_text())[1]
    subprocess.run(["scancel", number], check=True)
    sweep.join()
    assert sweep.exitcode == 1
    assert f"Slurm job {number} ended as CANCELLED. The last lines of" in printed.read_text()
    assert re.search(r"\d cells computed, 0 were finished before, \d unfinished", printed.read_text())
    assert len(outcome(out)) == 2, "the cells of the other"
    monkeypatch.setenv(SECONDS, "0")
    assert run(*SWEEP, *SLOW) == 0
    assert len(outcome(out)) == 5


def test_a_killed_job_is_submitted_again(run: Run, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECONDS, "1")
    printed = tmp_path / "printed"
    sweep = started(run, printed, *SWEEP, *SLOW, "launcher=slurm", "launcher.jobs=1")
    wait_until(lambda: examples(out))
    kill(pids(out)[0])
    sweep.join()
    assert sweep.exitcode == 0
    assert "ended as FAILED" in printed.read_text()
    assert re.search(r"Slurm job \d+ goes on with 5 cells", printed.read_text())
    assert len(outcome(out)) == 5


def test_an_interrupted_sweep_leaves_no_job(
    run: Run, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECONDS, "1")
    sweep = started(run, tmp_path / "printed", *SWEEP, *SLOW, *SLURM)
    wait_until(lambda: len(examples(out)) >= 2)
    assert sweep.pid is not None
    os.kill(sweep.pid, signal.SIGINT)
    sweep.join()
    assert sweep.exitcode == 130
    states = [scontrol("show", "job", number) for number in numbers((tmp_path / "printed").read_text())]
    assert not [state for state in states if "JobState=RUNNING" in state or "JobState=PENDING" in state]
    assert not list(out.glob("*/lock")), "they ended in order"


def test_a_sweep_need_not_wait(run: Run, out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(*SWEEP, *SLURM, "launcher.wait=false") == 0
    assert len(numbers(capfd.readouterr().out)) == 2
    wait_until(lambda: len(list(out.glob("*/record.json"))) == 5)
    assert run(*SWEEP) == 0
    assert "5 of 5 cells are finished already" in capfd.readouterr().out


def test_what_sbatch_refuses_is_told_in_one_line(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("method=dense", *SLURM, "launcher.partition=nowhere") == 2
    assert re.fullmatch(r"launcher=slurm: sbatch: .*Invalid partition.*\n", capfd.readouterr().err)


def test_fields_of_sbatch_reach_slurm(run: Run, out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fields = ("launcher.sbatch.nice=7", "launcher.memory_gb=0.5", "launcher.cpus=2")
    assert run("method=dense", *SLURM, *fields, 'launcher.setup=["export OMP_NUM_THREADS=3"]') == 0
    told = scontrol("show", "job", numbers(capfd.readouterr().out)[0])
    assert "Nice=7" in told and "MinMemoryNode=512M" in told and "NumCPUs=2" in told
    assert "OMP_NUM_THREADS=3" in "".join(logs(out).values())


def test_what_keeps_a_job_from_being_requeued_is_no_failure_of_a_cell() -> None:
    def not_requeued(number: int, frame: object) -> None:
        raise RuntimeError("Job not requeued")

    before = signal.signal(signal.SIGUSR2, not_requeued)
    try:
        end_when_not_requeued()
        with pytest.raises(SystemExit, match="Job not requeued"):
            signal.raise_signal(signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGUSR2, before)
