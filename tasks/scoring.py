"""Scores of generated answers. All of them compare normalised text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from itertools import pairwise

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The words of the first line that is not empty: case folded, without punctuation."""
    line = text.strip().split("\n", 1)[0]
    return _WORD.findall(unicodedata.normalize("NFKC", line).casefold())


def normalise(text: str) -> str:
    """`words` joined by single spaces."""
    return " ".join(words(text))


def exact_match(prediction: str, references: Iterable[str]) -> bool:
    """Whether the normalised prediction equals one of the normalised references."""
    return normalise(prediction) in {normalise(reference) for reference in references}


def ordered_recall(prediction: str, reference: str) -> float:
    """Share of the reference's words that the prediction has at the same place, from 0 to 1."""
    wanted = words(reference)
    right = sum(a == b for a, b in zip(words(prediction), wanted, strict=False))
    return right / len(wanted)


def leading_recall(prediction: str, reference: str) -> float:
    """Share of the reference's words that the prediction gives before its first mistake, from 0 to 1."""
    wanted = words(reference)
    right = 0
    for a, b in zip(words(prediction), wanted, strict=False):
        if a != b:
            break
        right += 1
    return right / len(wanted)


def pair_recall(prediction: str, reference: str) -> float:
    """Share of the reference's pairs `key value` in the prediction, from 0 to 1, in any order.

    A key's value is the word that follows the key's first mention.
    """
    given = words(prediction)
    wanted = words(reference)
    followers: dict[str, str] = {}
    for key, value in pairwise(given):
        followers.setdefault(key, value)
    pairs = list(zip(wanted[::2], wanted[1::2], strict=True))
    return sum(followers.get(key) == value for key, value in pairs) / len(pairs)
