"""A lock on a cell's folder, so that two processes that run one sweep compute each cell once."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from runners.store.durability import set_aside
from runners.store.lease import leased
from runners.store.owner import LockedError as LockedError
from runners.store.owner import Owner, read_owner, this_process

LOCK_NAME = "lock"
MOUNTS = Path("/proc/self/mountinfo")
# Options of NFS and Lustre under which a lock is granted at once, and no other machine hears of it.
UNSHARED = {"nolock", "local_lock=flock", "local_lock=all", "localflock"}
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)  # what a file system without locks answers


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`, which is created. Raises `LockedError` when another living process holds it, OSError.

    The kernel drops a lock with the process that held it, however and wherever it died: what a dead owner wrote into
    the file counts for nothing. Between hosts this holds on file systems that share locks (NFS, Lustre with flock);
    where there are none, or each machine keeps its own, a lease (see `runners.store.lease`) stands for the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_NAME
    descriptor = _acquire(path) if _shares_locks(folder.stat().st_dev) else None
    if descriptor is None:
        with leased(folder):
            yield
        return
    try:
        with suppress(OSError):  # a full disk: the lock is held, its owner has no name
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, this_process(), 0)
        try:
            yield
        finally:
            with suppress(OSError):  # a file that stays is no lock
                path.unlink()
    finally:
        os.close(descriptor)


def holder(folder: Path) -> tuple[bool, Owner | None]:
    """Tell whether a living process holds the lock file in `folder`, and who wrote it last. Raises OSError."""
    path = folder / LOCK_NAME
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True, read_owner(path)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    finally:
        os.close(descriptor)
    return False, read_owner(path)


def make_way(folder: Path) -> Path | None:
    """Set aside what stands where a cell's folder should be and is none. Returns its new name, None where nothing does.

    Raises `LockedError` when another living process does so at the moment, OSError.
    """
    if folder.is_dir() or not os.path.lexists(folder):
        return None
    with locked(folder.parent):  # who comes second must not take the new folder for what stood there
        return None if folder.is_dir() or not os.path.lexists(folder) else set_aside(folder)


@lru_cache(maxsize=8)
def _shares_locks(device: int) -> bool:
    """Whether a lock on a file system counts for all machines that mount it. Only Linux tells otherwise."""
    name = f"{os.major(device)}:{os.minor(device)}"
    mounts = MOUNTS.read_text(errors="replace").splitlines() if MOUNTS.exists() else []
    found = (line.split() for line in mounts)
    return not any(fields[2] == name and UNSHARED.intersection(fields[-1].split(",")) for fields in found)


def _acquire(path: Path) -> int | None:
    """Open and lock the file; None where the file system has no locks. A file that its owner removed meanwhile is not
    the lock any more: open the new one."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except BlockingIOError:
            owner = read_owner(path)
            os.close(descriptor)
            raise LockedError(owner) from None
        except OSError as error:
            os.close(descriptor)
            if error.errno not in NO_LOCKS:
                raise
            with suppress(OSError):
                path.unlink()
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
