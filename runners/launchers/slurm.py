"""launcher=slurm: an array of jobs, by submitit. One that is preempted or out of time is requeued and goes on."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar

from mage.errors import UserError
from runners.launchers.jobs import Crew, End, Job, JobLauncher, importable

if TYPE_CHECKING:
    from runners.cell import Cell

NO_LIMIT = 10**6  # of requeues; a job that gets nothing done in its time is not requeued, see Part.checkpoint
GRACE_S = 20.0  # for jobs to end in order
SIGNAL_BEFORE_S = 90  # how long before its end Slurm tells a job that its time is over
DEATHS = ("FAILED", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL")
ENDS = (*DEATHS, "COMPLETED", "CANCELLED", "TIMEOUT", "DEADLINE", "PREEMPTED", "REVOKED")
LOOKS = 2  # in which a job must have ended, or be unknown: one that is requeued looks so for a moment


@dataclass(frozen=True)
class Slurm(JobLauncher):
    """`jobs`: elements of the array at most; `parallel`: of them at a time. `timeout_min`: of a job, which is requeued
    then. `gpus`, `cpus`, `memory_gb`: of each job. `sbatch`: other fields by their long names. `setup`: shell lines
    before a job starts. `wait`: follow the jobs to their end; else only submit them."""

    elsewhere: ClassVar[bool] = True

    jobs: int = 8
    parallel: int = 256
    timeout_min: int = 240
    partition: str | None = None
    gpus: int = 0
    cpus: int | None = None
    memory_gb: float | None = None
    sbatch: dict[str, Any] = field(default_factory=dict)
    setup: tuple[str, ...] = ()
    wait: bool = True

    def __post_init__(self) -> None:
        lowest = {"jobs": 1, "parallel": 1, "timeout_min": 1, "gpus": 0, "cpus": 1, "memory_gb": 0}
        for name, least in lowest.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"launcher.{name}={value} is out of range. Allowed: from {least} up.")

    @property
    def waits(self) -> bool:
        return self.wait

    def check(self, cells: Sequence[Cell]) -> None:
        """See Launcher."""
        if find_spec("submitit") is None:
            raise UserError("launcher=slurm needs submitit: pip install 'mage-bench[slurm]'.")
        for program in ("sbatch", "srun", "squeue"):
            if shutil.which(program) is None:
                raise UserError(
                    f"launcher=slurm: there is no {program} on this machine. Start the sweep where Slurm is, or use "
                    "launcher=processes."
                )
        if not self.gpus and any(cell.settings.model.device != "cpu" for cell in cells) and "gres" not in self.sbatch:
            raise UserError("launcher.gpus=0: model.device is cuda. Allowed: from 1 up, or launcher.sbatch.gres=...")

    def count(self, cells: Sequence[Cell]) -> int:
        return self.jobs

    def crew(self, folder: Path, cells: Sequence[Cell], jobs: int) -> SlurmCrew:
        fields: dict[str, Any] = {
            "job_name": f"mage-{cells[0].settings.name}",
            "time": self.timeout_min,
            "signal_delay_s": SIGNAL_BEFORE_S if self.timeout_min > 2 else 30 * self.timeout_min,
            "array_parallelism": self.parallel,
            "stderr_to_stdout": True,
            "setup": [f"export PYTHONPATH={shlex.quote(importable())}", *self.setup],
            "additional_parameters": {"requeue": True, **self.sbatch},
        }
        if self.partition is not None:
            fields["partition"] = self.partition
        if self.gpus:
            fields["gpus_per_node"] = self.gpus
        if self.memory_gb is not None:
            fields["mem"] = f"{round(self.memory_gb * 1024)}M"
        if self.cpus is not None:
            fields["cpus_per_task"] = self.cpus
            fields["srun_args"] = [f"--cpus-per-task={self.cpus}"]  # srun no longer takes it from the job
            fields["setup"].append(f"export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-{self.cpus}}}")
        return SlurmCrew(folder, fields)


class Part:
    """What submitit calls in a job, and asks when Slurm ends it early."""

    def __init__(self, path: Path, limit_s: float) -> None:
        self._path, self._limit_s = path, limit_s
        self._began, self._done = 0.0, 0

    def __call__(self) -> int:
        """Compute the part, or go on where it was. SIGTERM is left to submitit, which lets it pass: were the job to end
        at the first sign of a preemption, Slurm would take it for done and not requeue it."""
        from runners.sweeping.job import bytes_done, run_part

        self._began, self._done = time.monotonic(), bytes_done(self._path)
        end_when_not_requeued()
        try:
            return run_part(self._path)
        except UserError as error:
            print(error, flush=True)
            return 2

    def checkpoint(self) -> Any:
        """Return what is to be submitted again: this. None when all the job's time was not enough for one example."""
        from runners.sweeping.job import bytes_done

        if bytes_done(self._path) <= self._done and time.monotonic() - self._began > self._limit_s / 2:
            print("Not one example was finished within the time limit.", flush=True)
            return None
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(Part(self._path, self._limit_s))


def end_when_not_requeued() -> None:
    """End the process where submitit raises an error because the job is not requeued: a cell must not take it for its
    own failure."""
    from submitit import JobEnvironment

    number = getattr(signal, f"SIG{JobEnvironment.USR_SIG}")
    requeue = signal.getsignal(number)
    assert callable(requeue)  # submitit has set it

    def handle(number: int, frame: FrameType | None) -> None:
        try:
            requeue(number, frame)
        except Exception as error:
            raise SystemExit(str(error)) from error

    signal.signal(number, handle)


class SlurmJob(Job):
    """An element of an array, or a job of its own. `status` is its state as Slurm tells it, and why it waits."""

    def __init__(self, number: str, log: Path) -> None:
        self.number, self.log, self.title = number, log, f"Slurm job {number}"
        self.status, self.reason, self._looks = "PENDING", "", 0

    def see(self, status: str, reason: str) -> None:
        self._looks = self._looks + 1 if status in ("", *ENDS) else 0
        self.status, self.reason = status, reason

    def end(self) -> End | None:
        if self._looks < LOOKS:
            return None
        told = f"ended as {self.status}" if self.status else "is unknown to Slurm by now"
        return End(told, died=self.status in DEATHS)


class SlurmCrew(Crew):
    """Submits by submitit, and asks squeue, which knows of the jobs also where Slurm keeps no accounts for sacct."""

    poll_s = 3.0

    def __init__(self, folder: Path, fields: Mapping[str, Any]) -> None:
        self._folder, self._fields = folder, fields
        self._jobs: list[SlurmJob] = []

    def start(self, parts: Sequence[Path]) -> list[Job]:
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedJobError

        executor = SlurmExecutor(self._folder, max_num_timeout=NO_LIMIT)
        executor.update_parameters(**self._fields)
        limit_s = 60.0 * self._fields["time"]
        try:
            with redirect_stderr(StringIO()):  # submitit prints there what it raises
                submitted = executor.submit_array([Part(path, limit_s) for path in parts])
        except (FailedJobError, OSError) as error:
            lines = [line for line in str(error).splitlines() if line.strip()] or [""]
            raise UserError(f"launcher=slurm: {lines[-1].replace('sbatch: error:', 'sbatch:')}") from error
        started = [SlurmJob(job.job_id, Path(job.paths.stdout)) for job in submitted]
        self._jobs += started
        return list(started)

    def look(self) -> str:
        at_work = self._at_work()
        found = _states({job.number.split("_")[0] for job in at_work})
        if found is None:
            return "Slurm does not answer; its jobs go on."
        for job in at_work:
            job.see(*found.get(job.number, ("", "")))
        reasons = {job.reason for job in at_work if job.status == "PENDING"}
        return f"Slurm jobs wait: {', '.join(sorted(reasons))}" if reasons else ""

    def stop(self) -> None:
        """End jobs that wait, interrupt those that run, and cancel what does not end by that."""
        until = time.monotonic() + GRACE_S
        try:
            for step in (["--state=PENDING"], ["--signal=INT"]):
                _cancel(step, self._at_work())
            while self._at_work() and time.monotonic() < until:
                time.sleep(1)
                self.look()
        finally:  # also when asked again
            _cancel([], self._at_work())

    def _at_work(self) -> list[SlurmJob]:
        return [job for job in self._jobs if job.end() is None]


def _cancel(options: Sequence[str], jobs: Sequence[SlurmJob]) -> None:
    if jobs:
        subprocess.run(["scancel", *options, *(job.number for job in jobs)], check=False, capture_output=True)


def _states(numbers: set[str]) -> dict[str, tuple[str, str]] | None:
    """Return the state of each job, and why it waits. None while Slurm does not answer."""
    if not numbers:
        return {}
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%r", f"--jobs={','.join(numbers)}"]
    told = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    if told.returncode:
        return {} if "Invalid job id" in told.stderr else None
    fields = (line.strip().split("|") for line in told.stdout.splitlines())
    return {number: (state, reason) for number, state, reason in fields}
