"""A sweep on a cluster as a child of the test, what its jobs print, and what it leaves."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.runners.conftest import outcome
from tests.runners.processes import fork
from tests.runners.test_interruption import strip_experiment

Run = Callable[..., int]
SWEEP = ("-m", "method=mage,quest", "budget=16,32", "model.threads=1")
SLOW = ("runner._target_=tests.cluster.slow.Slow",)


def started(run: Run, printed: Path, *arguments: str) -> BaseProcess:
    """Start a sweep in a child that prints to a file."""

    def sweep() -> int:
        with printed.open("w", buffering=1) as sys.stdout:
            return run(*arguments)

    return fork(sweep)


def logs(out: Path) -> dict[str, str]:
    """What the jobs of the last launch print, by the name of the log."""
    last = max(out.glob(".jobs/*"), default=out)
    return {path.name: path.read_text() for path in sorted(last.glob("*log*"))}


def examples(out: Path) -> list[bytes]:
    """All lines of all cells."""
    return [line for path in sorted(out.glob("*/examples.jsonl")) for line in path.read_bytes().splitlines()]


def wait_until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    """Poll; a cluster that does not get there is a failure, not a test that hangs."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "the cluster did not get there"
        time.sleep(0.05)


def equal(out: Path, other: str) -> bool:
    """Whether an experiment came out like another beside it, bit for bit but for clocks and meters."""
    return strip_experiment(outcome(out)) == strip_experiment(outcome(out.parent / other))


def pids(out: Path) -> list[int]:
    """The processes that jobs say they are, in the order of their logs."""
    return [int(pid) for log in logs(out).values() for pid in re.findall(r"process (\d+) on", log)]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
