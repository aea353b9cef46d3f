"""The place of one cell: examples.jsonl grows line by line, record.json is written last.

A line is on the disk before the next example starts, so a kill costs the example in flight and no more.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from runners.record import EXAMPLES_NAME, RECORD_NAME, CellRecord, ExamplesFile


class Store:
    """Reads and writes the folder of one cell. `row_type` is the schema of a line of examples.jsonl."""

    def __init__(self, folder: Path, row_type: type[BaseModel]) -> None:
        self.folder = folder
        self._row_type = row_type

    @property
    def _examples(self) -> Path:
        return self.folder / EXAMPLES_NAME

    @property
    def _record(self) -> Path:
        return self.folder / RECORD_NAME

    def finished(self, identity: str) -> CellRecord | None:
        """Return the record when the cell is done, its identity is `identity` and its examples are as it says."""
        try:
            record = CellRecord.model_validate_json(self._record.read_bytes())
        except (OSError, ValidationError):
            return None
        whole = record.examples is not None and record.examples == self.examples_file()
        return record if whole and record.status == "done" and record.identity == identity else None

    def resume(self, ids: Sequence[str], batch_size: int) -> list[BaseModel]:
        """Return the results that stand already, and cut what follows them.

        They are the leading lines that validate and carry the expected ids, in whole batches: a torn last line and a
        part of a batch are cut, so that what is computed next is computed as in an undisturbed run. A record of an
        earlier, failed attempt goes.
        """
        self._record.unlink(missing_ok=True)
        if not self._examples.exists():
            return []
        rows: list[BaseModel] = []
        ends = [0]
        for line in self._examples.read_bytes().splitlines(keepends=True):
            if len(rows) == len(ids) or not line.endswith(b"\n"):
                break
            try:
                row = self._row_type.model_validate_json(line)
            except ValidationError:
                break
            if row.model_dump(include={"id"})["id"] != ids[len(rows)]:
                break
            rows.append(row)
            ends.append(ends[-1] + len(line))
        kept = len(rows) if len(rows) == len(ids) else len(rows) // batch_size * batch_size
        os.truncate(self._examples, ends[kept])
        return rows[:kept]

    def append(self, rows: Sequence[BaseModel]) -> None:
        """Write the results of one batch durably, but for fields that were not measured.

        Whatever is raised, the file is then as it was before.
        """
        content = "".join(row.model_dump_json(exclude_unset=True) + "\n" for row in rows).encode()
        descriptor = os.open(self._examples, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, content)
                os.fsync(descriptor)
            except BaseException:  # a full disk, a time limit, a signal
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)

    def examples_file(self) -> ExamplesFile | None:
        """Describe examples.jsonl as it is, or None where there is none."""
        if not self._examples.exists():
            return None
        content = self._examples.read_bytes()
        return ExamplesFile(count=content.count(b"\n"), sha256=hashlib.sha256(content).hexdigest())

    def finish(self, record: CellRecord) -> None:
        """Write record.json atomically: a reader sees all of it or nothing."""
        temporary = self.folder / f"{RECORD_NAME}.tmp"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            _write_all(descriptor, record.model_dump_json(indent=1).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, self._record)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name, too, survives a power cut
        finally:
            os.close(folder)


def _write_all(descriptor: int, content: bytes) -> None:
    """os.write may write less than it is given, for instance when a disk fills up."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
