"""What hides the needles: the noise sentences, and running text cut at words and divided at sentences."""

from __future__ import annotations

import re
from bisect import bisect_left
from functools import lru_cache

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
"""One unit of noise (niah.py, variable_tracking.py)."""

_END = re.compile(r"[.!?][\"')\]”’_*]*$")
_START = re.compile(r"[\"'(\[“‘_*]*[A-Z0-9]")
_ABBREVIATIONS = frozenset({"Mr.", "Mrs.", "Ms.", "Dr.", "St.", "Esq.", "Rev.", "Hon.", "Capt.", "Col.", "Gen.", "No."})


class Essay:
    """Words of a text, repeated without end. Its sentences are where needles may stand between."""

    def __init__(self, text: str) -> None:
        self._words = text.split()
        self._starts = [0]
        for index in range(1, len(self._words)):
            last, word = self._words[index - 1], self._words[index]
            initial = len(last) == 2 and last[0].isupper() and last[1] == "."
            if _END.search(last) and last not in _ABBREVIATIONS and not initial and _START.match(word):
                self._starts.append(index)

    def words(self, first: int, end: int) -> str:
        """Words `first` to `end` (excluded), joined by spaces."""
        size = len(self._words)
        if end <= size:
            return " ".join(self._words[first:end])
        return " ".join(self._words[index % size] for index in range(first, end))

    def place(self, count: int, percent: int) -> int:
        """The word before which a needle at a depth stands in the first `count` words: a sentence's first, or `count`.

        Of n sentences, int(n x depth) stand before the needle (niah.py).
        """
        rounds, rest = divmod(count, len(self._words))
        sentences = rounds * len(self._starts) + bisect_left(self._starts, rest)
        before = int(sentences * (percent / 100))
        if before == sentences:
            return count
        cycle, index = divmod(before, len(self._starts))
        return cycle * len(self._words) + self._starts[index]


@lru_cache(maxsize=4)
def essay(text: str) -> Essay:
    """The `Essay` of a text, divided once a process."""
    return Essay(text)
