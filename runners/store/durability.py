"""Writes that survive a power cut: a file has all of what was written, under its name, or is as it was before."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)  # some network file systems; a parent that is not ours


def append(path: Path, content: bytes, *, durable: bool = True) -> int:
    """Append to a file, which is made where there is none, and return its size. Raises OSError.

    Whatever is raised, the file is then as it was before.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        try:
            with naming(path):
                _write_all(descriptor, content)
                if durable:
                    os.fsync(descriptor)
            if durable and size == 0:
                sync_names(path, folders=4)
        except BaseException:  # a full disk, a time limit, a signal
            with suppress(OSError):  # what stopped the write is what is told; a torn line is cut later
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
    return size + len(content)


def replace(path: Path, content: bytes) -> None:
    """Write a file atomically: a reader sees all of it or what was there before. Raises OSError."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            with naming(path):
                _write_all(descriptor, content)
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # a part of a file would fill a full disk further
            temporary.unlink(missing_ok=True)
        raise
    sync_names(path)


def keep_copy(path: Path, content: bytes) -> Path:
    """Write `content`, cut from a damaged file, beside it and return the new name. Raises OSError."""
    copy = _free_name(path)
    replace(copy, content)
    return copy


def set_aside(path: Path, mark: str = "damaged") -> Path:
    """Give a file a name, `path`.`mark`-N, under which nobody takes it for a cell's, and return that. Raises OSError.

    mark: `damaged`, or `foreign` for the file of another cell.
    """
    aside = _free_name(path, mark)
    path.rename(aside)
    sync_names(aside)
    return aside


def sync_names(path: Path, folders: int = 1) -> None:
    """Make a new name survive a power cut; with four folders also the names in output_dir/experiment/cell above it.

    Each wait for a disk takes milliseconds: a folder above in which nothing was made since is not waited for again.
    """
    for folder in list(path.parents)[:folders]:
        try:
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                changed = os.fstat(descriptor).st_mtime_ns
                if _synced.get(folder) != changed:
                    os.fsync(descriptor)
                if folder != path.parent:
                    _synced[folder] = changed
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno not in NO_FOLDER_SYNC:
                raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let what a full disk answers to a descriptor name the file."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


_synced: dict[Path, int] = {}  # when a folder above cells had changed last, as it was synced


def _free_name(path: Path, mark: str = "damaged") -> Path:
    names = (path.with_name(f"{path.name}.{mark}-{number}") for number in itertools.count(1))
    return next(name for name in names if not name.exists())


def _write_all(descriptor: int, content: bytes) -> None:
    """os.write may write less than it is given, for instance when a disk fills up."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
