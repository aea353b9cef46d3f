"""File systems of a test's own, to be filled or made read-only: in a child process whose mounts nobody else sees."""

from __future__ import annotations

import ctypes
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runners.processes import fork

NEW_MOUNTS, NEW_USER = 0x00020000, 0x10000000  # linux/sched.h
READ_ONLY, REMOUNT, RECURSIVE, PRIVATE = 1, 32, 1 << 14, 1 << 18  # linux/mount.h
NOT_ALLOWED = 77


def mount(folder: Path, megabytes: float) -> None:
    """Mount a file system in memory on `folder`, which is created. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount(b"tmpfs", folder, b"tmpfs", 0, f"size={int(megabytes * 2**20)}".encode())


def make_read_only(folder: Path) -> None:
    """Nothing can be written to the file system mounted on `folder` any more. Raises OSError."""
    _mount(b"tmpfs", folder, b"tmpfs", REMOUNT | READ_ONLY, b"")


def fill(folder: Path, left: int = 0) -> Path:
    """Write a file that leaves `left` bytes of the file system, and return it."""
    ballast = folder / "ballast"
    told = os.statvfs(folder)
    ballast.write_bytes(bytes(told.f_bfree * told.f_frsize - left))
    return ballast


def with_mounts(work: Callable[[], None]) -> None:
    """Call `work` in a child that may mount. Skips the test where the machine allows no mounts, not even in a user
    namespace; fails where `work` raises."""

    def child() -> int:
        try:
            _own_mounts()
        except OSError as error:
            print(error)
            return NOT_ALLOWED
        try:
            work()
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)  # whatever the test captures
            return 1
        return 0

    process = fork(child)
    process.join()
    if process.exitcode == NOT_ALLOWED:
        pytest.skip("this machine allows no mounts of one's own: neither as root nor in a user namespace")
    assert process.exitcode == 0


def _own_mounts() -> None:
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_MOUNTS) != 0:
        if libc.unshare(NEW_MOUNTS | NEW_USER) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _mount(b"none", Path("/"), b"", RECURSIVE | PRIVATE, b"")


def _mount(source: bytes, folder: Path, kind: bytes, flags: int, options: bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source, os.fsencode(folder), kind, ctypes.c_ulong(flags), options) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(folder))
