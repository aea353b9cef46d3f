"""A cell's folder as it lies on the disk, whoever wrote it: what stands, what is damaged, what is left over."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from runners.record import EXAMPLES_NAME, RECORD_NAME, CellRecord
from runners.store.checksums import CHECKSUMS_NAME, Checksums
from runners.store.lease import NAME as LEASE
from runners.store.lease import lease_holder
from runners.store.lines import Lines, read_lines
from runners.store.lock import LOCK_NAME, holder
from runners.store.owner import Owner
from runners.store.rows import ROWS, row_type
from runners.store.store import DamagedError, read_record, vouches

ANEW = "the same command computes it anew"
WRITTEN = "the same command writes it anew from the examples"
FILES = {RECORD_NAME, EXAMPLES_NAME, CHECKSUMS_NAME}  # what only a cell's folder holds
CELL_NAME = re.compile(r"-s[0-9]+-[0-9a-f]{8}$")  # how its name ends: that of a cell that was killed early tells it


@dataclass(frozen=True)
class Place:
    """The folder of one cell."""

    folder: Path

    @cached_property
    def _read(self) -> tuple[CellRecord | None, str, CellRecord | None]:
        """The record; what is wrong with it or its checksum, and what to do; what a damaged one says all the same."""
        if not self.folder.is_dir():
            return None, f"{self.folder}: it is no folder; the same command moves it aside and computes the cell", None
        try:
            return (record := read_record(self.folder)), "", record
        except FileNotFoundError:
            return None, "", None
        except DamagedError as error:
            mend = WRITTEN if error.name == CHECKSUMS_NAME else ANEW
            return None, f"{self.folder / error.name}: {error}; {mend}", error.record
        except OSError as error:
            return None, f"{self.folder / RECORD_NAME}: {error}; {ANEW}", None

    @property
    def record(self) -> CellRecord | None:
        """The record; None where there is none, or it is damaged."""
        return self._read[0]

    @cached_property
    def owner(self) -> Owner | None:
        """The living process that computes the cell, None where none does."""
        for alive, owner in self._holders():
            if alive:
                return owner or Owner(pid=0, host="unknown")
        return None

    @property
    def status(self) -> str:
        """That of the record, or `damaged`, `running`, `unfinished`."""
        if self._read[1]:
            return "damaged"
        if self.owner is not None:
            return "running"
        if self._stand[1]:
            return "damaged"
        return self.record.status if self.record else "unfinished"

    @cached_property
    def done(self) -> int:
        """How many leading lines of examples.jsonl stand."""
        return self._stand[0]

    @property
    def has_checksums(self) -> bool:
        """Whether something tells of each piece what it was; so it is where nothing is written yet."""
        kept = [name for name in FILES if (self.folder / name).exists()]
        return CHECKSUMS_NAME in kept or not kept

    @property
    def asked(self) -> int | None:
        """How many examples the cell has; None where nothing tells."""
        if self.record is None:
            return None
        if self.record.status == "done" and self.record.examples is not None:
            return self.record.examples.count
        asked = self.record.config.get("examples")
        return asked if isinstance(asked, int) else None

    @property
    def when(self) -> str:
        """When the cell ended, or grew last: ISO 8601, UTC, to the second."""
        if self.record is not None:
            return self.record.environment.finished
        files = [self.folder / EXAMPLES_NAME, self.folder]
        seconds = next((path for path in files if path.exists()), self.folder).lstat().st_mtime
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")

    def damages(self) -> list[str]:
        """Return a line for each thing that is wrong: the file, what is wrong with it, what to do."""
        record, damage, _ = self._read
        if damage:
            return [damage, *self._line_damages(None)]
        if record is None:
            trouble = Checksums(self.folder).trouble()
            found = [] if trouble is None else [f"{self.folder / CHECKSUMS_NAME}: {trouble}; {WRITTEN}"]
            return found + self._line_damages(None)
        found = []
        if self.folder.name != record.name or record.identity[:8] not in self.folder.name:
            told = f"the folder of cell {record.name} ({record.identity})"
            found.append(f"{self.folder}: it is {told}; give it that name back, or {ANEW} beside it")
        return found + self._line_damages(record)

    def notes(self) -> list[str]:
        """Return a line for each thing that is left over, or in the making, and harms nothing."""
        found = []
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            if path.suffix == ".tmp":
                found.append(f"{path}: left by a process that was killed; it can be removed")
            elif re.search(r"\.damaged-\d+$", path.name):
                found.append(f"{path}: kept when it was found damaged; it can be removed")
            elif re.search(r"\.foreign-\d+$", path.name):
                found.append(f"{path}: of another cell, kept when it was found here; it can be removed")
        if self.owner is not None:
            found.append(f"{self.folder}: process {self.owner.pid} on {self.owner.host} computes it now")
        else:
            for _, owner in self._holders():
                by = f"process {owner.pid} on {owner.host}" if owner else "a process"
                found.append(f"{self.folder}: locked by {by}, which is gone; the next run takes it over")
        return found

    def _holders(self) -> Iterator[tuple[bool, Owner | None]]:
        """Whether the owner lives, and who it is, for the lock and the lease where there are such."""
        try:
            names = os.listdir(self.folder)
            if LOCK_NAME in names:
                yield holder(self.folder)
            if any(LEASE.fullmatch(name) for name in names):
                yield lease_holder(self.folder)
        except OSError:  # no folder yet; released meanwhile; or nothing may be read or made here
            return

    def _line_damages(self, record: CellRecord | None) -> list[str]:
        path = self.folder / EXAMPLES_NAME
        if path.is_dir():
            return [f"{path}: it is a directory; {ANEW}"]
        if path.is_file():
            trouble = self._lines(path.read_bytes(), record).trouble
            if trouble is not None:
                return [f"{path}: {trouble}; {ANEW}"]
        differs = difference(self.folder, record) if record else None
        return [f"{differs}; {ANEW}"] if differs else []

    @cached_property
    def _stand(self) -> tuple[int, str]:
        """How many lines stand, and what is wrong with the others."""
        record, path = self.record, self.folder / EXAMPLES_NAME
        differs = (difference(self.folder, record) or "") if record else ""
        if not path.is_file():
            return 0, differs or ("it is a directory" if path.is_dir() else "")
        if record and record.examples and not differs:
            return record.examples.count, ""
        lines = self._lines(path.read_bytes(), record, strict=bool(differs))
        return len(lines.rows), differs or lines.trouble or ""

    def _lines(self, content: bytes, record: CellRecord | None, *, strict: bool = False) -> Lines:
        said = self._read[2]
        sums = {} if said and vouches(said, content) else Checksums(self.folder).read(EXAMPLES_NAME)
        return read_lines(content, row_type(record.labels.runner if record else None), sums, strict=strict)


def difference(folder: Path, record: CellRecord) -> str | None:
    """Return in which way the examples are not what their record says: file, field, values. None where they are."""
    path, file, told = folder / RECORD_NAME, folder / EXAMPLES_NAME, record.examples
    needed = record.status == "done" and record.labels.runner in ROWS
    if told is None:
        return f"{path}: field examples is missing, although status is 'done'" if needed else None
    if told.path != EXAMPLES_NAME:
        return f"{path}: field examples.path is {told.path!r}, not {EXAMPLES_NAME!r}"
    if not file.is_file():
        return f"{file} is missing: field examples.path of {path} names it"
    content = file.read_bytes()
    count, digest = content.count(b"\n"), hashlib.sha256(content).hexdigest()
    if count != told.count:
        return f"{file} has {count} lines, field examples.count of {path} says {told.count}"
    if digest != told.sha256:
        return f"{file}: its SHA-256 is {digest[:12]}..., field examples.sha256 of {path} says otherwise"
    if needed and count == 0:
        return f"{path}: field examples.count is 0, although status is 'done'"
    return None


def places(folders: list[Path]) -> list[Place]:
    """Return the cells at or below some folders, each once, in order."""
    found: dict[Path, Place] = {}
    for folder in folders:
        for parent, below, files in os.walk(folder):
            below.sort()
            for name in sorted(filter(CELL_NAME.search, files)):  # where a cell's folder should be
                found.setdefault(Path(parent, name).absolute(), Place(Path(parent, name)))
            if FILES.intersection(files) or CELL_NAME.search(Path(parent).name):
                found.setdefault(Path(parent).resolve(), Place(Path(parent)))
                below.clear()
    return list(found.values())
