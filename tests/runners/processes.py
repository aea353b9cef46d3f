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


def held_by_a_child(folder: Path) -> int:
    """Return the process id of a child that holds the lock of `folder` by now."""
    child = fork(lambda: hold(folder))
    while not (folder / "held").exists():
        time.sleep(0.001)
    assert child.pid is not None
    return child.pid


def end(pid: int) -> None:
    """Kill a child and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
