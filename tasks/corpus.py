"""Running text to hide things in: the shipped novels or a folder of text files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tasks.errors import refused

SHIPPED = Path(__file__).parent / "data"
"""Folders with corpora of their own names; each holds a file that says where its texts come from."""

NAMES = ("novels", "novels_train")
"""The corpora that come with the package."""


@dataclass(frozen=True)
class Corpus:
    """`text` is all files joined by an empty line; `digest` is the SHA-256 of its UTF-8 bytes, in hex."""

    name: str
    text: str
    digest: str


@lru_cache(maxsize=8)
def corpus(source: str) -> Corpus:
    """The text behind a task's `haystack`.

    source: `novels`, two public-domain novels, 1.2 million characters; `novels_train`, three others, 2.8 million; or a
    folder, whose `*.txt` files (UTF-8, not those of its subfolders) are joined in the order of their names. A corpus is
    read once a process.
    Raises TaskError for a folder that is missing or has no text, and for a file that cannot be read.
    """
    folder = SHIPPED / source if source in NAMES else Path(source)
    allowed = f"allowed are {', '.join(NAMES)} or a folder of .txt files"
    if not source or not folder.is_dir():
        raise refused("haystack", source, f"there is no such folder; {allowed}")
    texts = []
    for file in sorted(folder.glob("*.txt")):
        try:
            texts.append(file.read_text(encoding="utf-8").strip())
        except (UnicodeDecodeError, OSError) as error:
            raise refused("haystack", source, f"{file.name} cannot be read as UTF-8 text ({error})") from error
    text = "\n\n".join(text for text in texts if text)
    if not text:
        raise refused("haystack", source, f"the folder holds no text; {allowed}")
    return Corpus(folder.name, text, hashlib.sha256(text.encode()).hexdigest())
