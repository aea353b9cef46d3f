"""What identifies a file: the SHA-256 of its content, read as seldom as is safe.

A checkpoint of 16 GB takes half a minute to hash, too long for each start. Two shortcuts, both exact:

- A file of the hub's cache is a link to `blobs/<etag>`, and the etag of a large file is the SHA-256 of its content,
  which the download checked. It is read off the link. A hub checkpoint and a copy of it in a folder so have one
  identity.
- The digest of another file above `LARGE` bytes is kept in the user's cache directory, beside the file's path, size,
  inode and time of the last change; it is used again while all four are the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from mage.models.cache import keep, read_kept

LARGE = 256 * 2**20
_KEPT = "digests.json"


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file's content in hex. Raises OSError when it cannot be read."""
    target = file.resolve(strict=True)
    if target.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", target.name):
        return target.name
    stat = target.stat()
    if stat.st_size <= LARGE:
        return _read(target)
    stamp = f"{stat.st_size} {stat.st_ino} {stat.st_mtime_ns}"
    before, _, digest = str(_kept().get(str(target))).rpartition(" ")
    if before != stamp:
        digest = _read(target)
        _keep({**_kept(), str(target): f"{stamp} {digest}"})
    return digest


def _read(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _kept() -> dict[str, str]:
    try:
        content = json.loads(read_kept(_KEPT) or b"{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _keep(digests: dict[str, str]) -> None:
    keep(_KEPT, json.dumps(digests).encode())
