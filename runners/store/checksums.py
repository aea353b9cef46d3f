"""What each line of examples.jsonl, and record.json, was when it was written: one changed digit is noticed."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path

from runners.store.durability import append, replace

CHECKSUMS_NAME = "checksums"
ENTRY = re.compile(r"(\S+) (\d+) (\d+) ([0-9a-f]{8})")


class Checksums:
    """The file `checksums` of a cell's folder: a line `name offset length crc32` for each piece of a file.

    An entry is written before its piece, and counts until a later one for the same offset. Of a piece without one
    nothing is known: it was written before there were checksums, or a power cut took the entry.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / CHECKSUMS_NAME

    def read(self, name: str) -> dict[int, tuple[int, str]]:
        """Return length in bytes and CRC-32 of the pieces of a file by their offsets."""
        return {offset: told for (owner, offset), told in self._entries().items() if owner == name}

    def contradict(self, name: str, content: bytes) -> bool:
        """Whether a file that was written as one piece is not what it was."""
        told = self.read(name).get(0)
        return told is not None and told != (len(content), checksum(content))

    def add(self, name: str, offset: int, pieces: Sequence[bytes]) -> None:
        """Note pieces that follow one another from `offset`, without waiting for the disk. Raises OSError."""
        lines = []
        for piece in pieces:
            lines.append(f"{name} {offset} {len(piece)} {checksum(piece)}\n")
            offset += len(piece)
        append(self._path, "".join(lines).encode(), durable=False)

    def cut(self, name: str, size: int) -> None:
        """Keep of all entries those of the first `size` bytes of a file. Raises OSError."""
        entries = self._entries()
        kept = {key: told for key, told in entries.items() if key[0] == name and key[1] + told[0] <= size}
        if len(kept) < len(entries):
            lines = (f"{owner} {offset} {length} {crc}\n" for (owner, offset), (length, crc) in kept.items())
            replace(self._path, "".join(lines).encode())

    def _entries(self) -> dict[tuple[str, int], tuple[int, str]]:
        try:
            lines = self._path.read_text("ascii", "replace").splitlines()
        except OSError:
            return {}
        found = (ENTRY.fullmatch(line) for line in lines)
        return {(match[1], int(match[2])): (int(match[3]), match[4]) for match in found if match}


def checksum(piece: bytes) -> str:
    """Return the CRC-32 in eight hex digits."""
    return f"{zlib.crc32(piece):08x}"
