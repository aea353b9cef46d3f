"""Child processes that start at once: forked from the test, which has imported everything already."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from runners.store.lock import locked


def fork(work: Callable[[], int]) -> BaseProcess:
    """Start `work` in a child; its exit status is what `work` returns."""

    def child() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as does one of nohup with this
        torch.set_num_threads(1)  # the threads of a pool do not survive a fork
        os._exit(work())

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    return process


def hold(folder: Path) -> int:
    """Hold the lock of a cell's folder, and say so with a file `held` there, until a signal ends the process."""
    with locked(folder):
        (folder / "held").touch()
        signal.pause()
    return 0


def held_by_a_child(folder: Path, deadline_s: float = 60.0) -> int:
    """Return the process id of a child that holds the lock of `folder` by now. Fails where it dies before, or takes
    longer than `deadline_s`."""
    child = fork(lambda: hold(folder))
    assert child.pid is not None
    until = time.monotonic() + deadline_s
    while not (folder / "held").exists():
        assert child.is_alive(), f"the child ended with status {child.exitcode} before it held the lock"
        if time.monotonic() > until:
            end(child.pid)
            raise AssertionError(f"the child did not hold the lock within {deadline_s:g} s")
        time.sleep(0.001)
    return child.pid


def end(pid: int) -> None:
    """Kill a child and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
