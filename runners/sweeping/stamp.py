"""Which record of a cell is meant: one that was written again is another."""

from __future__ import annotations

from pathlib import Path

from runners.record import RECORD_NAME

Stamp = tuple[int, int]


def stamp_of(folder: Path) -> Stamp | None:
    """Return what tells the record in a cell's folder from one written before or after it; None where there is none."""
    try:
        found = (folder / RECORD_NAME).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
