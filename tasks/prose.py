"""Prose of a given number of tokens with sentences put in between."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from random import Random

from tasks.errors import refused
from tasks.haystack import Insert
from tasks.task import Tokenizer

_PIECE = re.compile(r"\s*\S+")
_SENTENCE_END = re.compile(r"\.[\"'”’)\]]*$")
_TITLES = frozenset({"mr.", "mrs.", "dr.", "st."})
_OPENING = "\"'“‘(["


class Prose:
    """Builds contexts out of one text with one tokenizer. The text is words with white space between them."""

    def __init__(self, text: str, tokenizer: Tokenizer) -> None:
        self._text = text.strip()
        self._tokenizer = tokenizer
        self._counted: dict[str, int] = {}
        self._starts = [0, *(match.end() for match in re.finditer(r"\n\n+", self._text))]

    def build(self, inserts: Sequence[Insert], tokens: int, rng: Random, gap: str = " ") -> str:
        """A text of at most `tokens` tokens, and less than one word fewer, that holds every insert whole.

        The prose begins at a random paragraph, starts over where the text ends, and stops after any word. An insert of
        depth d stands behind the last full stop within the first d of the prose's tokens, at its front where there is
        none; that of depth 1 stands at the very end, within a sentence or not; that of depth None has a random depth.
        Depths are those of the sum over the words' tokens; the number of tokens is that of the text as a whole.
        `gap` stands between an insert and the prose around it. Raises TaskError when the inserts leave no room.
        """
        stream = _Stream(self._pieces(rng.choice(self._starts)), self._count_word)
        placed = [(rng.random() if insert.depth is None else insert.depth, insert.text) for insert in inserts]
        taken = sum(len(self._tokenizer.encode(gap + text)) for _, text in placed)
        size = max(1, stream.size(tokens - taken))
        made, fits, too_long = "", 0, None
        while too_long is None or too_long - fits > 1:
            text = stream.text(size, placed, gap)
            surplus = len(self._tokenizer.encode(text)) - tokens
            if surplus > 0:
                too_long = size
            else:
                made, fits = text, size
                if -surplus < stream.tokens(size + 1) - stream.tokens(size):
                    break
            # Where the estimate puts the end, but strictly between what fits and what does not.
            size = max(fits + 1, stream.size(stream.tokens(size) - surplus))
            size = size if too_long is None else min(size, too_long - 1)
        if not fits:
            raise refused("lengths", tokens, f"so many tokens leave no room for prose beside {taken} of what it holds")
        return made

    def _count_word(self, word: str) -> int:
        count = self._counted.get(word)
        if count is None:
            count = self._counted[word] = len(self._tokenizer.encode(word))
        return count

    def _pieces(self, start: int) -> Iterator[str]:
        """The words of the endless text with the white space before them, from the paragraph at `start` on."""
        gap = ""
        while True:
            for match in _PIECE.finditer(self._text, start):
                yield gap + match.group()
                gap = ""
            start, gap = 0, "\n\n"


class _Stream:
    """A growing list of words with the estimate of their tokens, which is the sum over single words."""

    def __init__(self, pieces: Iterator[str], count: Callable[[str], int]) -> None:
        self._pieces = pieces
        self._count = count
        self._words: list[str] = []
        self._sums = [0]
        self._sentence_ends: list[int] = []

    def size(self, tokens: int) -> int:
        """The largest number of words that take at most `tokens` tokens."""
        while self._sums[-1] <= tokens:
            self._grow()
        return max(0, bisect_right(self._sums, tokens) - 1)

    def tokens(self, size: int) -> int:
        """The tokens of the first `size` words."""
        while len(self._words) < size:
            self._grow()
        return self._sums[size]

    def text(self, size: int, placed: Sequence[tuple[float, str]], gap: str) -> str:
        """The first `size` words with texts put in at their depths, in the given order where they meet."""
        total = self.tokens(size)
        points = [size if depth == 1 else self._sentence_end(int(depth * total)) for depth, _ in placed]
        order = sorted(range(len(placed)), key=lambda i: points[i])
        parts = []
        for before, here in pairwise([None, *order, None]):
            start, stop = 0 if before is None else points[before], size if here is None else points[here]
            parts += self._words[start:stop]
            if here is not None:
                text = placed[here][1]
                parts.append(gap + text if stop else text + gap)
        return "".join(parts)

    def _sentence_end(self, tokens: int) -> int:
        """The number of words up to the last full stop within the first `tokens` tokens, 0 without one."""
        index = bisect_right(self._sentence_ends, self.size(tokens))
        return self._sentence_ends[index - 1] if index else 0

    def _grow(self) -> None:
        word = next(self._pieces)
        self._words.append(word)
        self._sums.append(self._sums[-1] + self._count(word))
        if _SENTENCE_END.search(word) and word.strip().lstrip(_OPENING).casefold() not in _TITLES:
            self._sentence_ends.append(len(self._words))
