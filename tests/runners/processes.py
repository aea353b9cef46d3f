"""Child processes that start at once: forked from the test, which has imported everything already."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess

import torch


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
