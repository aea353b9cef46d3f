"""launcher=ray: a task of Ray for each part of the sweep, here or on a cluster. Each runs its job as a child."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mage.errors import UserError
from runners.launchers.jobs import Crew, End, Job, JobLauncher, importable
from runners.launchers.processes import THREADS, ended

if TYPE_CHECKING:
    from runners.cell import Cell

CONNECT_S = 10.0
GRACE_S = 20.0  # for jobs to end in order
STORE_BYTES = 2**27  # of Ray's object store when Ray is started here: jobs pass no objects


@dataclass(frozen=True)
class Ray(JobLauncher):
    """`jobs`: tasks at most. `num_cpus`, `num_gpus`: of each task; a part of a GPU is possible. `address`: of a running
    cluster, or `auto`; None starts Ray on this machine. `retries`: of a task whose worker or machine died."""

    jobs: int = 4
    num_cpus: float = 1
    num_gpus: float = 0
    address: str | None = None
    retries: int = 3

    elsewhere: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, least in {"jobs": 1, "num_cpus": 0, "num_gpus": 0, "retries": 0}.items():
            value = getattr(self, name)
            if value < least:
                raise UserError(f"launcher.{name}={value} is out of range. Allowed: from {least} up.")

    def check(self, cells: Sequence[Cell]) -> None:
        """See Launcher."""
        if find_spec("ray") is None:
            raise UserError("launcher=ray needs Ray: pip install 'mage-bench[ray]'.")
        if not self.num_gpus and any(cell.settings.model.device != "cpu" for cell in cells):
            raise UserError("launcher.num_gpus=0: model.device is cuda. Allowed: above 0.")

    def count(self, cells: Sequence[Cell]) -> int:
        return self.jobs

    def crew(self, folder: Path, cells: Sequence[Cell], jobs: int) -> RayCrew:
        environment = {"PYTHONPATH": importable()}
        if THREADS in os.environ:
            environment[THREADS] = os.environ[THREADS]
        return RayCrew(self, folder, environment)


class RayCrew(Crew):
    """Starts Ray or joins a cluster with the first jobs, and leaves it at the end."""

    def __init__(self, asked: Ray, folder: Path, environment: Mapping[str, str]) -> None:
        self._asked, self._environment, self._stop = asked, environment, folder / "stop"
        self._jobs: dict[Path, RayJob] = {}

    def start(self, parts: Sequence[Path]) -> list[Job]:
        import ray

        if not ray.is_initialized():
            _connect(self._asked)
        options = {"num_cpus": self._asked.num_cpus, "num_gpus": self._asked.num_gpus}
        task = ray.remote(max_retries=self._asked.retries, **options)(_task())
        started: list[Job] = []
        for part in parts:
            log = part.with_suffix(".log")
            title = self._jobs[part].title if part in self._jobs else f"task {len(self._jobs) + 1}"
            running = task.remote(str(part), str(log), str(self._stop), dict(self._environment))
            self._jobs[part] = RayJob(title, log, running)
            started.append(self._jobs[part])
        return started

    def stop(self) -> None:
        import ray

        if not ray.is_initialized():
            return
        try:
            if tasks := [job.task for job in self._jobs.values() if job.end() is None]:
                # A task that Ray cancels counts as ended at once, and its child is then killed.
                self._stop.touch()
                ray.wait(tasks, num_returns=len(tasks), timeout=GRACE_S)
        finally:
            ray.shutdown()


class RayJob(Job):
    """A task and the job that is its child."""

    def __init__(self, title: str, log: Path, task: Any) -> None:
        self.title, self.log, self.task = title, log, task
        self._end: End | None = None

    def end(self) -> End | None:
        import ray

        if self._end is None and ray.wait([self.task], timeout=0)[0]:
            try:
                self._end = ended(ray.get(self.task))
            except Exception as error:  # what Ray says of a worker, a machine or a task that is gone
                lines = str(error).strip().splitlines() or [""]
                self._end = End(f"was lost: {type(error).__name__}: {lines[0]}")
        return self._end


def _connect(asked: Ray) -> None:
    """Start Ray here, or join the cluster. Raises `UserError` where neither works. Signals stay this process's own."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"address": asked.address or "local", "log_to_driver": False, "logging_level": "ERROR"}
    if asked.address is None:
        options |= {"include_dashboard": False, "object_store_memory": STORE_BYTES}
    try:
        if match := re.fullmatch(r"(?:ray://)?(.+):(\d+)", asked.address or ""):
            socket.create_connection(
                (match[1], int(match[2])), timeout=CONNECT_S
            ).close()  # Ray itself tries for minutes
        with _own_signals():
            ray.init(**options)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise UserError(f"launcher.address={asked.address}: {str(error).strip().splitlines()[0]}") from error
    for kind, needed in (("CPU", asked.num_cpus), ("GPU", asked.num_gpus)):
        there = ray.cluster_resources().get(kind, 0)
        if there < needed and not asked.address:  # a cluster may grow
            ray.shutdown()
            raise UserError(f"launcher.num_{kind.lower()}s={needed:g}: this machine has {there:g}.")


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handler of SIGTERM: Ray sets one of its own, which would end this process without its jobs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _task() -> Callable[..., int]:
    """Return what a worker of Ray runs. A function within a function travels whole: a worker need not find this code,
    only its child, by the PYTHONPATH that it is given."""

    def compute(part: str, log: str, stop: str, environment: Mapping[str, str]) -> int:
        """Run the job as a child, until that ends or the file `stop` is there. When the worker dies, the child ends."""
        import os
        import subprocess
        import sys

        command = [sys.executable, "-P", "-u", "-m", "runners.sweeping.job", part, "--follow"]
        with open(log, "ab") as file:
            child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=file, stderr=file, env={**os.environ, **environment}
            )
        told = False
        while True:
            try:
                return child.wait(0.5)
            except subprocess.TimeoutExpired:
                if not told and os.path.exists(stop):
                    told = True
                    child.terminate()

    return compute
