"""Files kept between processes in the user's cache directory: cheap to lose."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def read_kept(name: str) -> bytes | None:
    """Return what `keep` wrote under `name`, None where there is nothing. The caller tells whether it is whole."""
    try:
        return (cache_folder() / name).read_bytes()
    except OSError:
        return None


def keep(name: str, content: bytes) -> None:
    """Keep `content` under the file name `name`, all or nothing; not at all where the directory cannot be written."""
    with suppress(OSError):
        cache_folder().mkdir(parents=True, exist_ok=True)
        part = cache_folder() / f"{name}.{os.getpid()}"
        part.write_bytes(content)
        part.replace(cache_folder() / name)


def cache_folder() -> Path:
    """Return the directory. It may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mage-bench"
