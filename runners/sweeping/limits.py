"""What can end a cell or a sweep from outside: a time limit, a signal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDINGS = (signal.SIGTERM, signal.SIGHUP)
AT_ONCE_S = 1e-6  # zero would stop the timer


class CellTimeoutError(Exception):
    """The cell took longer than `runner.timeout_s`."""


class Terminated(BaseException):
    """The process was asked to end by SIGTERM, or its terminal was closed."""


@contextmanager
def time_limit(seconds: float | None, spent: float = 0.0) -> Iterator[None]:
    """Raise `CellTimeoutError` in the block once it and the time `spent` before it take more than `seconds`.

    Only the main thread can be interrupted like that, and only between two instructions of Python.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(number: int, frame: FrameType | None) -> None:
        raise CellTimeoutError(f"the cell took longer than runner.timeout_s={seconds:g}")

    before = signal.signal(signal.SIGALRM, expire)
    try:
        _limits.append(seconds)
        signal.setitimer(signal.ITIMER_REAL, max(seconds - spent, AT_ONCE_S))
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        _limits.pop()


@contextmanager
def apart() -> Iterator[None]:
    """Give the block, whose work others share, as long again as the time limit around it, whose time stands still."""
    if not _limits:
        yield
        return
    rest, _ = signal.setitimer(signal.ITIMER_REAL, _limits[-1])
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, max(rest, AT_ONCE_S))


_limits: list[float] = []  # seconds, of the blocks at hand


@contextmanager
def terminable() -> Iterator[None]:
    """Raise `Terminated` in the block on SIGTERM and SIGHUP, so that locks are released and tracked runs are ended.

    Where SIGHUP is ignored, as under nohup, it stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    caught = [number for number in ENDINGS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, terminate) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
