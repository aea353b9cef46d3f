"""What each line of examples.jsonl, and record.json, was when it was written: one changed digit is noticed."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from runners.store.durability import append, replace

CHECKSUMS_NAME = "checksums"
UNKNOWN = "-"  # the commit of a sealed line, where that is not known
ENTRY = re.compile(
    rf"(\S+) (\d+) (\d+) ([0-9a-f]{{8}})(?: ([0-9a-f]{{40}}|[0-9a-f]{{64}}|{UNKNOWN}))?(?: ([0-9a-f]{{8}}))?", re.ASCII
)


class Entry(NamedTuple):
    """One piece of a file, and the commit of the code that wrote it; empty where that is not known.

    `seal`: CRC-32 of all that stands before it in the file of checksums; empty where there is none.
    """

    name: str
    offset: int
    length: int
    crc: str
    commit: str
    seal: str = ""

    def __str__(self) -> str:
        commit = self.commit or (UNKNOWN if self.seal else "")
        return " ".join(map(str, (*self[:4], commit, self.seal))).rstrip()


class Checksums:
    """The file `checksums` of a cell's folder: a line `name offset length crc32 commit` for each piece of a file.

    An entry is written before its piece, and counts until a later one for the same offset. The entry of the record
    ends in a seal: a changed byte in this file is not taken for one in a file that it tells of. Of a piece without an
    entry nothing is known: it was written before there were checksums, or a power cut took the entry.
    """

    def __init__(self, folder: Path, commit: str | None = None) -> None:
        """`commit`: that of the code that adds entries."""
        self._path = folder / CHECKSUMS_NAME
        self._commit = commit or ""

    def read(self, name: str) -> dict[int, tuple[int, str]]:
        """Return length in bytes and CRC-32 of the pieces of a file by their offsets."""
        return {entry.offset: (entry.length, entry.crc) for entry in self._latest(name)}

    def commits(self, name: str) -> list[str]:
        """Return the commits that wrote the pieces of a file, as far as they are known, each once."""
        return list(dict.fromkeys(entry.commit for entry in self._latest(name) if entry.commit))

    def trouble(self, *, written: str | None = None) -> str | None:
        """Return what is wrong with the file itself; None where that is nothing, or there is none.

        written: a file of which an entry must be there. A last line without its end is one that a power cut took.
        """
        if self._path.is_dir():
            return "it is a directory"
        text, end = self._text(), 0
        for number, line in enumerate(text.split("\n")[:-1], start=1):
            entry, end = _entry(line), end + len(line)
            if entry is None:
                return f"line {number} is no checksum"
            if entry.seal and entry.seal != _seal(text[: end - len(entry.seal)]):
                return f"it is not what was written: the seal in line {number} differs"
            end += 1
        if written is None or not self._path.exists():
            return None
        names = {entry.name for entry in self._entries()}
        if written not in names:
            return f"it holds no checksum of {written}" if names else "it holds no checksum"
        return None

    def contradict(self, name: str, content: bytes) -> bool:
        """Whether a file that is written as one piece is none that was written.

        A kill or a full disk between an entry and its piece leaves the file as an earlier entry tells.
        """
        told = {(entry.length, entry.crc) for entry in self._entries() if entry.name == name}
        return bool(told) and (len(content), checksum(content)) not in told

    def gap(self, name: str, content: bytes) -> str | None:
        """Return of which line of a file the entry is missing or another; None where there is no such line or file."""
        sums, offset = self.read(name), 0
        for number, line in enumerate(io.BytesIO(content) if self._path.exists() else (), start=1):
            told = sums.get(offset)
            if told is None:
                return f"it holds no checksum of line {number} of {name}"
            if told != (len(line), checksum(line)):
                return f"its checksum is not that of line {number} of {name}, which is what was written"
            offset += len(line)
        return None

    def add(self, name: str, offset: int, pieces: Sequence[bytes]) -> None:
        """Note pieces that follow one another from `offset`. Raises OSError."""
        lines = []
        for piece in pieces:
            lines.append(f"{Entry(name, offset, len(piece), checksum(piece), self._commit)}\n")
            offset += len(piece)
        append(self._path, "".join(lines).encode(), durable=False)

    def seal(self, name: str, content: bytes) -> None:
        """Note a file that is written as one piece, seal all entries so far, and wait for the disk. Raises OSError."""
        text = self._text()
        whole = text[: text.rfind("\n") + 1]
        entry = Entry(name, 0, len(content), checksum(content), self._commit, "0" * 8)
        line = str(entry)[: -len(entry.seal)]
        added = f"{line}{_seal(whole + line)}\n"
        if whole == text:
            append(self._path, added.encode())
        else:  # a power cut left a part of a line
            replace(self._path, (whole + added).encode("latin-1"))

    def renew(self, name: str, lines: Iterable[bytes], commits: Sequence[str] = ()) -> None:
        """Keep of all entries those of the lines of a file, and write those that are missing or others. Raises OSError.

        commits: that wrote the lines, the last of them first, where it is known: no entry names another.
        """
        latest = {entry.offset: entry for entry in self._latest(name)}
        kept, offset = [], 0
        for line in lines:
            entry = Entry(name, offset, len(line), checksum(line), commits[0] if commits else "")
            old = latest.get(offset)
            same = old is not None and old[:4] == entry[:4] and (not commits or old.commit in commits)
            kept.append(old if same else entry)
            offset += len(line)
        text = "".join(f"{entry}\n" for entry in kept)
        if text != self._text():
            replace(self._path, text.encode("latin-1"))

    def _latest(self, name: str) -> list[Entry]:
        """Return the entries of a file that count."""
        return list({entry.offset: entry for entry in self._entries() if entry.name == name}.values())

    def _entries(self) -> list[Entry]:
        return [entry for entry in map(_entry, self._text().split("\n")[:-1]) if entry is not None]

    def _text(self) -> str:
        try:
            return self._path.read_bytes().decode("latin-1")  # a character for each byte, whatever it has become
        except OSError:
            return ""


def checksum(piece: bytes) -> str:
    """Return the CRC-32 in eight hex digits."""
    return f"{zlib.crc32(piece):08x}"


def _seal(text: str) -> str:
    return checksum(text.encode("latin-1"))


def _entry(line: str) -> Entry | None:
    """Return the entry that a line is; None where it is none, to the letter."""
    match = ENTRY.fullmatch(line)
    if match is None:
        return None
    commit, seal = match[5] or "", match[6] or ""
    entry = Entry(match[1], int(match[2]), int(match[3]), match[4], "" if commit == UNKNOWN else commit, seal)
    return entry if str(entry) == line else None
