"""What each line of examples.jsonl, and record.json, was when it was written: one changed digit is noticed."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from runners.store.durability import append, replace

CHECKSUMS_NAME = "checksums"
ENTRY = re.compile(r"(\S+) (\d+) (\d+) ([0-9a-f]{8})(?: (\S+))?")


class Entry(NamedTuple):
    """One piece of a file, and the commit of the code that wrote it; empty where that is not known."""

    name: str
    offset: int
    length: int
    crc: str
    commit: str

    def __str__(self) -> str:
        return " ".join(map(str, self)).rstrip()


class Checksums:
    """The file `checksums` of a cell's folder: a line `name offset length crc32 commit` for each piece of a file.

    An entry is written before its piece, and counts until a later one for the same offset. Of a piece without one
    nothing is known: it was written before there were checksums, or a power cut took the entry.
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

    def trouble(self, *, written: bool = False) -> str | None:
        """Return what is wrong with the file itself; None where that is nothing, or there is none.

        written: whether an entry must be there. A last line without its end is one that a power cut took.
        """
        if self._path.is_dir():
            return "it is a directory"
        *lines, _ = self._text().split("\n")
        for number, line in enumerate(lines, start=1):
            if not ENTRY.fullmatch(line):
                return f"line {number} is no checksum"
        return "it holds no checksum" if written and not lines and self._path.exists() else None

    def contradict(self, name: str, content: bytes) -> bool:
        """Whether a file that is written as one piece is none that was written, or nothing tells any more.

        A kill or a full disk between an entry and its piece leaves the file as an earlier entry tells.
        """
        if self.trouble(written=True) is not None:
            return True
        told = {(entry.length, entry.crc) for entry in self._entries() if entry.name == name}
        return bool(told) and (len(content), checksum(content)) not in told

    def add(self, name: str, offset: int, pieces: Sequence[bytes], *, durable: bool = False) -> None:
        """Note pieces that follow one another from `offset`. Raises OSError. durable: wait for the disk."""
        lines = []
        for piece in pieces:
            lines.append(f"{Entry(name, offset, len(piece), checksum(piece), self._commit)}\n")
            offset += len(piece)
        append(self._path, "".join(lines).encode(), durable=durable)

    def cut(self, name: str, size: int) -> None:
        """Keep of all entries those of the first `size` bytes of a file. Raises OSError."""
        kept = [entry for entry in self._latest(name) if entry.offset + entry.length <= size]
        text = "".join(f"{entry}\n" for entry in kept)
        if text != self._text():
            replace(self._path, text.encode())

    def _latest(self, name: str) -> list[Entry]:
        """Return the entries of a file that count."""
        return list({entry.offset: entry for entry in self._entries() if entry.name == name}.values())

    def _entries(self) -> list[Entry]:
        found = (ENTRY.fullmatch(line) for line in self._text().split("\n"))
        return [Entry(match[1], int(match[2]), int(match[3]), match[4], match[5] or "") for match in found if match]

    def _text(self) -> str:
        try:
            return self._path.read_bytes().decode("ascii", "replace")
        except OSError:
            return ""


def checksum(piece: bytes) -> str:
    """Return the CRC-32 in eight hex digits."""
    return f"{zlib.crc32(piece):08x}"
