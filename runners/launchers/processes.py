"""launcher=processes: several processes on this machine, each with a GPU of its own or its share of the cores.

Plain subprocesses, not joblib: when a worker of its pool dies, the pool and the work of all others go with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING

from mage.errors import UserError
from runners.findings import shown
from runners.launchers.jobs import Crew, End, Job, JobLauncher, importable

if TYPE_CHECKING:
    from runners.cell import Cell

CORES = 4  # of a job on a CPU, unless the number of jobs is given
GRACE_S = 20.0  # for a job to end in order
THREADS = "OMP_NUM_THREADS"
DEVICES = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Processes(JobLauncher):
    """`jobs`: None is one for each device, on a CPU one for each `CORES` cores and at least two. `devices`: of CUDA, by
    index or UUID, dealt out in turn; none named: all that are visible."""

    jobs: int | None = None
    devices: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise UserError(f"launcher.jobs={self.jobs} is out of range. Allowed: an integer >= 1, or null.")

    def check(self, cells: Sequence[Cell]) -> None:
        """See Launcher."""
        used = _cuda(cells)
        for device in used - {"cuda"}:
            raise UserError(
                f"model.device={device}: with launcher=processes a job sees its own device only. Allowed: cuda (name "
                f"the devices in launcher.devices), cpu."
            )
        if used or self.devices:
            self._chosen()

    def count(self, cells: Sequence[Cell]) -> int:
        if self.jobs is not None:
            return self.jobs
        return len(self._chosen()) if _cuda(cells) or self.devices else max(2, _cores() // CORES)

    def crew(self, folder: Path, cells: Sequence[Cell], jobs: int) -> ProcessCrew:
        devices = self._chosen() if _cuda(cells) or self.devices else []
        threads = os.environ.get(THREADS, str(max(1, _cores() // jobs)))
        environments = []
        for number in range(jobs):
            own = {DEVICES: devices[number % len(devices)]} if devices else {}
            environments.append({**os.environ, "PYTHONPATH": importable(), THREADS: threads, **own})
        return ProcessCrew(environments)

    def _chosen(self) -> list[str]:
        """Return the devices to deal out. Raises `UserError` for one that is not there."""
        visible = _visible()
        for device in map(str, self.devices):
            if device not in visible:
                seen = f"some of {shown(visible)}, or []" if visible else "[], as no CUDA device is visible here"
                raise UserError(f"launcher.devices={shown(self.devices)}: {device} is not visible. Allowed: {seen}.")
        return [str(device) for device in self.devices] or visible


class Process(Job):
    """`python -m runners.sweeping.job` as a child of this process, in no terminal's group: signals reach it by us."""

    def __init__(self, title: str, part: Path, environment: Mapping[str, str]) -> None:
        self.title, self.log, self._environment = title, part.with_suffix(".log"), environment
        self._child = start(part, self.log, environment)

    def end(self) -> End | None:
        return ended(self._child.poll())

    def again(self, part: Path) -> Process:
        """Start the part again, with the device it had."""
        return Process(self.title, part, self._environment)

    def terminate(self) -> None:
        self._child.terminate()

    def wait(self, until: float) -> None:
        """Wait until the job is gone; kill it when that takes until the time of a clock."""
        try:
            self._child.wait(max(until - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def kill(self) -> None:
        self._child.kill()


class ProcessCrew(Crew):
    """Children of this process. Each ends with it, however it ends: then their standard input closes."""

    def __init__(self, environments: Sequence[Mapping[str, str]]) -> None:
        self._environments = environments
        self._jobs: dict[Path, Process] = {}

    def start(self, parts: Sequence[Path]) -> list[Job]:
        started: list[Job] = []
        for part in parts:
            before = self._jobs.get(part)
            number = len(self._jobs)
            self._jobs[part] = (
                before.again(part) if before else Process(f"job {number + 1}", part, self._environments[number])
            )
            started.append(self._jobs[part])
        return started

    def stop(self) -> None:
        jobs = [job for job in self._jobs.values() if job.end() is None]
        try:
            for job in jobs:
                job.terminate()
            until = time.monotonic() + GRACE_S
            for job in jobs:
                job.wait(until)
        except BaseException:  # asked again: at once
            for job in jobs:
                job.kill()
            raise


def start(part: Path, log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a job that ends when this process does. `-P`: what lies in the working folder is not imported."""
    command = [sys.executable, "-P", "-u", "-m", "runners.sweeping.job", str(part), "--follow"]
    with log.open("ab") as file:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=file, stderr=file, env=dict(environment), start_new_session=True
        )


def ended(status: int | None) -> End | None:
    """Say how a job ended that left an exit status: by a signal it did not expect, it died."""
    if status is None:
        return None
    if status < 0:
        return End(f"was killed by {Signals(-status).name}", died=True)
    return End(f"ended with status {status}")


def _cuda(cells: Sequence[Cell]) -> set[str]:
    return {cell.settings.model.device for cell in cells} - {"cpu"}


def _visible() -> list[str]:
    """Return the CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get(DEVICES)
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def _cores() -> int:
    return len(os.sched_getaffinity(0))
