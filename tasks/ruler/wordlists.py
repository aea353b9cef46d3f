"""The English words that RULER draws from: the lists of the package `wonderwords` (MIT)."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

ADJECTIVES = "adjectivelist"
NOUNS = "nounlist"
VERBS = "verblist"


@cache
def word_list(name: str) -> tuple[str, ...]:
    """The words of one list in the order of its file, as `wonderwords` reads it: one a line, trailing blanks cut."""
    text = (files("wonderwords") / "assets" / f"{name}.txt").read_text(encoding="utf-8")
    return tuple(line.rstrip() for line in text.splitlines())


@cache
def all_words() -> tuple[str, ...]:
    """Nouns, adjectives and verbs, each word once, sorted (common_words_extraction.py)."""
    return tuple(sorted({word for name in (NOUNS, ADJECTIVES, VERBS) for word in word_list(name)}))


def lists_digest(*names: str) -> str:
    """Hex digest of some lists: other releases of the package have other words."""
    return hashlib.sha256("\n\n".join("\n".join(word_list(name)) for name in names).encode()).hexdigest()
