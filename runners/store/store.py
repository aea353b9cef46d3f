"""The place of one cell: examples.jsonl grows line by line, record.json is written last.

A line is on the disk before the next example starts, so a kill costs the example in flight and no more. What is
damaged is told, kept under another name and computed anew. `python -m runners.store` checks and lists such places.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ValidationError

from runners.record import EXAMPLES_NAME, RECORD_NAME, CellRecord, ExamplesFile
from runners.store.checksums import CHECKSUMS_NAME, Checksums
from runners.store.durability import append, keep_copy, replace, set_aside
from runners.store.lines import first_finding, read_lines


class Store:
    """Reads and writes the folder of one cell. `row_type` is the schema of a line of examples.jsonl, `commit` that of
    the code that computes lines."""

    def __init__(self, folder: Path, row_type: type[BaseModel], commit: str | None = None) -> None:
        self.folder = folder
        self._row_type = row_type
        self._commit = commit
        self._sums = Checksums(folder, commit)
        self._identity: str | None = None  # that of the cell, once `finished` was asked
        self._size: int | None = None  # of examples.jsonl as this store left it; None: not looked at yet

    @property
    def _examples(self) -> Path:
        return self.folder / EXAMPLES_NAME

    @property
    def _record(self) -> Path:
        return self.folder / RECORD_NAME

    @property
    def _checksums(self) -> Path:
        return self.folder / CHECKSUMS_NAME

    @property
    def earlier_commits(self) -> list[str]:
        """Other commits of the code, as far as they are known, that computed examples which stand."""
        return [commit for commit in self._sums.commits(EXAMPLES_NAME) if commit != self._commit]

    def finished(self, identity: str) -> CellRecord | None:
        """Return the record when the cell is done, its identity is `identity` and its examples are as it says."""
        self._identity = identity
        try:
            record = read_record(self.folder)
            whole = record.examples is not None and record.examples == self.examples_file()
        except (OSError, DamagedError):
            return None
        return record if whole and record.status == "done" and record.identity == identity else None

    def standing(self, identity: str, asked: int | None, batch_size: int) -> int:
        """Return how many of the `asked` examples a resume would let stand. Nothing is written."""
        record = None
        with suppress(OSError):
            try:
                record = read_record(self.folder)
                if record.identity != identity:
                    return 0
            except DamagedError as damage:
                record = damage.record
        described = record.examples if record else None
        content = self._examples.read_bytes() if self._examples.is_file() else b""
        doubted = described is not None and described != _describe(content)
        count = len(read_lines(content, self._row_type, self._sums.read(EXAMPLES_NAME), strict=doubted).rows)
        return asked if asked is not None and count >= asked else count // batch_size * batch_size

    def resume(
        self, ids: Sequence[str], batch_size: int, say: Callable[[str], None] = lambda text: None
    ) -> list[BaseModel]:
        """Return the results that stand already, and cut what follows them. Raises OSError.

        They are the leading lines that validate, are as their checksums say and carry the expected ids, in whole
        batches: a torn last line and a part of a batch are cut, so that what is computed next is computed as in an
        undisturbed run. The record of an earlier, failed attempt goes. What is damaged is told to `say` in one line;
        it stays beside its file as *.damaged-N, what is of another cell as *.foreign-N. What
        another commit computed is told, too, and stands.
        """
        described = self._drop_record(say)
        self._drop_unreadable(say)
        content = self._examples.read_bytes() if self._examples.exists() else b""
        doubted = described is not None and described != _describe(content)
        found = read_lines(content, self._row_type, self._sums.read(EXAMPLES_NAME), ids=ids, strict=doubted)
        count = len(found.rows)
        kept = count if count == len(ids) else count // batch_size * batch_size
        if found.trouble is not None:
            copy = keep_copy(self._examples, content[found.ends[count] :])
            told = f"{EXAMPLES_NAME}: {found.trouble}; from there on it is kept as {copy.name} and computed anew"
            say(f"{self.folder.name}: {told}")
        elif doubted:
            told = f"{EXAMPLES_NAME} is not what {RECORD_NAME} describes: {count} of {len(ids)} examples stand"
            say(f"{self.folder.name}: {told}, the others are computed anew")
        self._size = found.ends[kept]
        if self._size < len(content):
            os.truncate(self._examples, self._size)
        self._sums.cut(EXAMPLES_NAME, self._size)
        if self.earlier_commits:
            told = ", ".join(commit[:8] for commit in self._sums.commits(EXAMPLES_NAME))
            here = (self._commit or "unknown")[:8]
            say(f"{self.folder.name}: {kept} of {len(ids)} examples stand, computed by commit {told}; this is {here}")
        return found.rows[:kept]

    def append(self, rows: Sequence[BaseModel]) -> None:
        """Write the results of one batch durably, but for fields that were not measured. Raises OSError.

        Whatever is raised, the file is then as it was before.
        """
        lines = [row.model_dump_json(exclude_unset=True).encode() + b"\n" for row in rows]
        size = self._examples.stat().st_size if self._examples.exists() else 0
        self._refuse_foreign(size)
        self._sums.add(EXAMPLES_NAME, size, lines)
        self._size = append(self._examples, b"".join(lines))

    def examples_file(self) -> ExamplesFile | None:
        """Describe examples.jsonl as it is, or None where there is none."""
        return _describe(self._examples.read_bytes()) if self._examples.exists() else None

    def finish(self, record: CellRecord) -> None:
        """Write record.json atomically: a reader sees all of it or nothing. A failed record never replaces one of a
        finished cell. Raises OSError."""
        if record.status == "done":
            self._refuse_foreign(self._examples.stat().st_size if self._examples.exists() else 0)
        elif self.finished(record.identity) is not None:
            return
        content = record.model_dump_json(indent=1).encode() + b"\n"
        # A power cut must not take the new entry and leave that of a record before, which the new one contradicts.
        self._sums.add(RECORD_NAME, 0, [content], durable=self._record.exists())
        replace(self._record, content)

    def _drop_record(self, say: Callable[[str], None]) -> ExamplesFile | None:
        """Make way for a new record; return what the old one says of the examples, as far as it can be trusted."""
        if not self._record.exists():
            return None
        try:
            record = read_record(self.folder)
        except DamagedError as damage:
            say(f"{self.folder.name}: {damage.name}: {damage}; {RECORD_NAME} is kept as {set_aside(self._record).name}")
            return damage.record.examples if damage.record else None
        if self._identity not in (None, record.identity):
            whole = (self._examples, self._checksums, self._record)  # the record last: it tells whose they are
            kept = [set_aside(path, "foreign").name for path in whole if path.exists()]
            say(f"{self.folder.name}: it holds cell {record.name} ({record.identity}); kept as {', '.join(kept)}")
            return None
        if record.status == "done":
            set_aside(self._record)
        else:
            self._record.unlink()
        return record.examples

    def _drop_unreadable(self, say: Callable[[str], None]) -> None:
        """Make way for files where there are directories, and keep a copy of checksums that are none."""
        for path in (self._examples, self._checksums):
            if path.is_dir():
                say(f"{self.folder.name}: {path.name}: it is a directory; it is kept as {set_aside(path).name}")
        trouble = self._sums.trouble()
        if trouble is not None:
            copy = keep_copy(self._checksums, self._checksums.read_bytes())
            say(f"{self.folder.name}: {CHECKSUMS_NAME}: {trouble}; it is kept as {copy.name}")

    def _refuse_foreign(self, size: int) -> None:
        """Where file locks do not reach from one machine to the other, two processes may take the same cell."""
        if self._size is not None and size != self._size:
            told = f"{self._examples} has {size} bytes, not {self._size}: another process writes into it."
            raise OSError(f"{told} Do machines that share this folder share its locks?")


class DamagedError(Exception):
    """A file is not what was written. `name`: of the file. `record`: what the record says, where it can be read."""

    def __init__(self, told: str, name: str = RECORD_NAME, record: CellRecord | None = None) -> None:
        self.name, self.record = name, record
        super().__init__(told)


def read_record(folder: Path) -> CellRecord:
    """Return the record in a cell's folder. Raises OSError, or `DamagedError` with what is wrong."""
    try:
        content = (folder / RECORD_NAME).read_bytes()
    except IsADirectoryError:
        raise DamagedError("it is a directory") from None
    record, finding = None, ""
    try:
        record = CellRecord.model_validate_json(content)
    except ValidationError as error:
        finding = first_finding(error)
    sums = Checksums(folder)
    if sums.contradict(RECORD_NAME, content):
        trouble = sums.trouble(written=True)
        if trouble is not None:
            raise DamagedError(trouble, CHECKSUMS_NAME, record)
        raise DamagedError("it is not what was written: its checksum differs", record=record)
    if record is None:
        raise DamagedError(finding)
    return record


def _describe(content: bytes) -> ExamplesFile:
    return ExamplesFile(count=content.count(b"\n"), sha256=hashlib.sha256(content).hexdigest())
