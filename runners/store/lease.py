"""A lock for file systems without locks: a file that its owner touches again and again.

A process owns a folder by having made the file `lease-N` in it, which a file server lets one process do. Its heartbeat
renews the file's time. A lease that was silent for `SILENT_S` is of a dead owner: who wants the folder makes the file
of the next number, looks that nothing moved meanwhile, and removes the old one. No clock of a machine is asked: times
are those that the file server gives to files.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runners.store.durability import naming
from runners.store.owner import LockedError, Owner, read_owner, this_process

SILENT_S = 120.0  # longer than a file server is away, or its answers are kept by a client
RENEW_S = 15.0
NAME = re.compile(r"lease-([0-9]+)")

Snapshot = dict[str, tuple[int, int]]  # inode and time of each lease


@contextmanager
def leased(folder: Path) -> Iterator[None]:
    """Hold the lease of `folder`. Raises `LockedError` when another process holds it or was quicker, OSError.

    An owner that was stopped for longer than `SILENT_S` has lost it; `runners.store.store.Store` refuses to write then.
    """
    path, descriptor = _take(folder)
    _heart.add(descriptor)
    try:
        yield
    finally:
        _heart.remove(descriptor)
        with suppress(OSError):
            os.utime(descriptor)  # nobody takes it over from here on: it can be removed by its name
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                path.unlink()
        os.close(descriptor)


def lease_holder(folder: Path) -> tuple[bool, Owner | None]:
    """Tell whether a living process holds a lease of `folder`, and who made the newest. Raises OSError."""
    found = _snapshot(folder)
    return bool(found) and not _silent(folder, found), read_owner(folder / max(found, key=_number)) if found else None


def _take(folder: Path) -> tuple[Path, int]:
    """Make the next lease and return it open."""
    before = _snapshot(folder)
    newest = max(before, key=_number, default="lease-0")
    if before and not _silent(folder, before):
        raise LockedError(read_owner(folder / newest))
    path = folder / f"lease-{_number(newest) + 1}"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        raise LockedError(read_owner(path)) from None
    try:
        with naming(path):
            os.write(descriptor, this_process())
        after = _snapshot(folder)
        after.pop(path.name, None)
        if after != before:  # someone else came, or a silent owner spoke
            raise LockedError(None)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)
        raise
    for name in before:
        with suppress(OSError):
            (folder / name).unlink()
    return path, descriptor


def _snapshot(folder: Path) -> Snapshot:
    """Look at each lease. It is opened, since a client of a file server asks for news when a file is opened."""
    found = {}
    for name in os.listdir(folder):
        if NAME.fullmatch(name):
            with suppress(FileNotFoundError):
                descriptor = os.open(folder / name, os.O_RDONLY)
                try:
                    told = os.fstat(descriptor)
                finally:
                    os.close(descriptor)
                found[name] = (told.st_ino, told.st_mtime_ns)
    return found


def _silent(folder: Path, found: Snapshot) -> bool:
    """Whether all leases are older than `SILENT_S`, by the time that the file server gives to a new file."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix="lease-clock-", suffix=".tmp") as clock:
        now = os.fstat(clock.fileno()).st_mtime_ns
    return all(now - renewed > SILENT_S * 1e9 for _, renewed in found.values())


def _number(name: str) -> int:
    return int(name.removeprefix("lease-"))


class _Heart:
    """One thread that renews all leases of this process, while it has any."""

    def __init__(self) -> None:
        self._held: set[int] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def add(self, descriptor: int) -> None:
        with self._lock:
            self._held.add(descriptor)
            if self._thread is None or not self._thread.is_alive():
                self._stop = threading.Event()
                self._thread = threading.Thread(target=self._beat, args=(self._stop,), name="leases", daemon=True)
                self._thread.start()

    def remove(self, descriptor: int) -> None:
        with self._lock:
            self._held.discard(descriptor)
            if not self._held:
                self._stop.set()
                self._thread = None

    def _beat(self, stop: threading.Event) -> None:
        while not stop.wait(RENEW_S):
            with self._lock:  # a descriptor that is closed may be another file's next
                for descriptor in self._held:
                    with suppress(OSError):  # a server that is away: the next beat may reach it
                        os.utime(descriptor)


_heart = _Heart()
