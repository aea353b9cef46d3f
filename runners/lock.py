"""A lock on a cell's folder, so that two processes that run one sweep compute each cell once."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ValidationError

LOCK_NAME = "lock"


class Owner(BaseModel):
    """Who holds a lock, for the message to whoever waits."""

    pid: int
    host: str


class LockedError(Exception):
    """The cell is being computed by another process."""

    def __init__(self, owner: Owner | None) -> None:
        self.owner = owner
        super().__init__(f"held by process {owner.pid} on {owner.host}" if owner else "held by another process")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`, which is created. Raises `LockedError` when another living process holds it.

    The kernel drops a lock with the process that held it, however and wherever it died: what a dead owner wrote into
    the file counts for nothing. Between hosts this holds on file systems that share locks (NFS, Lustre with flock).
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_NAME
    descriptor = _acquire(path)
    try:
        mine = Owner(pid=os.getpid(), host=socket.gethostname())
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(mine.model_dump()).encode(), 0)
        try:
            yield
        finally:
            with suppress(OSError):  # a file that stays is no lock
                path.unlink()
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
