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
import os
import re
from contextlib import suppress
from pathlib import Path

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


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mage-bench"


def _kept() -> dict[str, str]:
    try:
        content = json.loads((_folder() / _KEPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _keep(digests: dict[str, str]) -> None:
    with suppress(OSError):  # nowhere to write: hash again next time
        _folder().mkdir(parents=True, exist_ok=True)
        part = _folder() / f"{_KEPT}.{os.getpid()}"
        part.write_text(json.dumps(digests), encoding="utf-8")
        part.replace(_folder() / _KEPT)
