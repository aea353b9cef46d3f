"""The place of one cell: examples.jsonl grows line by line, record.json is written last.

A line is on the disk before the next example starts, so a kill costs the example in flight and no more. What is
damaged is told, kept under another name and computed anew. `python -m runners.store` checks and lists such places.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ValidationError

from runners.record import EXAMPLES_NAME, RECORD_NAME, CellRecord, ExamplesFile
from runners.store.checksums import CHECKSUMS_NAME, Checksums
from runners.store.durability import append, keep_copy, replace, set_aside
from runners.store.lines import Lines, first_finding, read_lines


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
        content = self._examples.read_bytes() if self._examples.is_file() else b""
        count = len(self._lines(content, record).rows)
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
        record, trouble = self._drop_record(say)
        self._drop_unreadable(trouble, say)
        content = self._examples.read_bytes() if self._examples.exists() else b""
        found = self._lines(content, record, ids)
        count = len(found.rows)
        kept = count if count == len(ids) else count // batch_size * batch_size
        if found.trouble is not None:
            copy = keep_copy(self._examples, content[found.ends[count] :])
            told = f"{EXAMPLES_NAME}: {found.trouble}; from there on it is kept as {copy.name} and computed anew"
            say(f"{self.folder.name}: {told}")
        elif _doubts(record, content):
            told = f"{EXAMPLES_NAME} is not what {RECORD_NAME} describes: {count} of {len(ids)} examples stand"
            say(f"{self.folder.name}: {told}, the others are computed anew")
        self._size = found.ends[kept]
        if self._size < len(content):
            os.truncate(self._examples, self._size)
        proven = record is not None and vouches(record, content)
        self._sums.renew(EXAMPLES_NAME, io.BytesIO(content[: self._size]), _commits(record) if proven else ())
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
        self._sums.seal(RECORD_NAME, content)  # on the disk before the record: without its checksum that is damaged
        replace(self._record, content)

    def _lines(self, content: bytes, record: CellRecord | None, ids: Sequence[str] | None = None) -> Lines:
        """Read the lines that stand. Whether they are what was written, the SHA-256 of a finished cell tells first."""
        proven = record is not None and vouches(record, content)
        sums = {} if proven else self._sums.read(EXAMPLES_NAME)
        return read_lines(content, self._row_type, sums, ids=ids, strict=_doubts(record, content))

    def _drop_record(self, say: Callable[[str], None]) -> tuple[CellRecord | None, str | None]:
        """Make way for a new record; return the old one as far as it can be read, and what is wrong with the checksums
        that tell of it."""
        if not self._record.exists():
            return None, None
        try:
            record = read_record(self.folder)
        except DamagedError as damage:
            say(f"{self.folder.name}: {damage.name}: {damage}; {RECORD_NAME} is kept as {set_aside(self._record).name}")
            return damage.record, str(damage) if damage.name == CHECKSUMS_NAME else None
        if self._identity not in (None, record.identity):
            whole = (self._examples, self._checksums, self._record)  # the record last: it tells whose they are
            kept = [set_aside(path, "foreign").name for path in whole if path.exists()]
            say(f"{self.folder.name}: it holds cell {record.name} ({record.identity}); kept as {', '.join(kept)}")
            return None, None
        if record.status == "done":
            set_aside(self._record)
        else:
            self._record.unlink()
        return record, None

    def _drop_unreadable(self, trouble: str | None, say: Callable[[str], None]) -> None:
        """Make way for files where there are directories, and keep a copy of checksums that are none."""
        for path in (self._examples, self._checksums):
            if path.is_dir():
                say(f"{self.folder.name}: {path.name}: it is a directory; it is kept as {set_aside(path).name}")
        trouble = trouble or self._sums.trouble()
        content = self._checksums.read_bytes() if self._checksums.exists() else b""
        if trouble is not None and content:
            copy = keep_copy(self._checksums, content)
            told = f"it is kept as {copy.name} and written anew from the examples"
            say(f"{self.folder.name}: {CHECKSUMS_NAME}: {trouble}; {told}")

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
    if trouble := sums.trouble(written=RECORD_NAME):
        raise DamagedError(trouble, CHECKSUMS_NAME, record)
    if sums.contradict(RECORD_NAME, content):
        raise DamagedError("it is not what was written: its checksum differs", record=record)
    if record is None:
        raise DamagedError(finding)
    examples = folder / EXAMPLES_NAME
    if record.status == "done" and examples.is_file():
        lines = examples.read_bytes()
        gap = sums.gap(EXAMPLES_NAME, lines)
        if gap is not None and vouches(record, lines):
            raise DamagedError(gap, CHECKSUMS_NAME, record)
    return record


def vouches(record: CellRecord, content: bytes) -> bool:
    """Whether the record of a finished cell tells that `content` of its examples is what was written, whatever
    checksums say. That of a failed cell describes the file as it was then, damaged or not."""
    return record.status == "done" and record.examples == _describe(content)


def _doubts(record: CellRecord | None, content: bytes) -> bool:
    """Whether a record describes other examples."""
    return record is not None and record.examples is not None and record.examples != _describe(content)


def _commits(record: CellRecord | None) -> list[str]:
    """Return the commits that computed a cell as far as they are known, the last of them first."""
    told = record.environment if record else None
    return [told.git_commit, *told.earlier_commits] if told and told.git_commit else []


def _describe(content: bytes) -> ExamplesFile:
    return ExamplesFile(count=content.count(b"\n"), sha256=hashlib.sha256(content).hexdigest())
