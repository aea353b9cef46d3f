"""A lock on a cell's folder, so that two processes that run one sweep compute each cell once."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ValidationError

LOCK_NAME = "lock"
# A lock held from another host is taken over when its owner has not touched it for this long.
FOREIGN_STALE_S = 1800.0


class Owner(BaseModel):
    """Who holds a lock. `started` is the Unix time at which it was taken."""

    pid: int
    host: str
    started: float


class LockedError(Exception):
    """The cell is being computed by another process."""

    def __init__(self, owner: Owner | None) -> None:
        self.owner = owner
        super().__init__(f"held by process {owner.pid} on {owner.host}" if owner else "held by another process")


class Lock:
    """A held lock. `touch` tells other hosts that the owner is alive."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def touch(self) -> None:
        """Renew the sign of life."""
        os.utime(self._path)


@contextmanager
def locked(folder: Path) -> Iterator[Lock]:
    """Hold the lock of `folder`, which is created. Raises `LockedError` when another living process holds it.

    The kernel drops a lock with the process that held it, however it died: a dead owner's lock is free at once. Where
    the file system does not share locks between hosts, the owner's name and its last sign of life decide.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_NAME
    descriptor = _acquire(path)
    try:
        owner = _read_owner(path)
        host = socket.gethostname()
        if owner and owner.host != host and time.time() - path.stat().st_mtime < FOREIGN_STALE_S:
            raise LockedError(owner)
        mine = Owner(pid=os.getpid(), host=host, started=time.time())
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(mine.model_dump()).encode(), 0)
        try:
            yield Lock(path)
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _acquire(path: Path) -> int:
    """Open and lock the file. A file that its owner removed meanwhile is not the lock any more: open the new one."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError:
            owner = _read_owner(path)
            os.close(descriptor)
            raise LockedError(owner) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _read_owner(path: Path) -> Owner | None:
    try:
        return Owner.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):  # not written yet, or removed since
        return None
