"""Passages of novels: whole sentences in a row, with what stands between them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from tasks.task import Tokenizer

_SENTENCE_GAP = re.compile(
    r"(?:(?<=[.!?])|(?<=[.!?][\"”’')]))(?<!\bMr\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bSt\.) (?=[A-Z“‘\"'(])"
)


@dataclass(frozen=True)
class Sentence:
    """`gap`: the white space before it; a new paragraph has an empty line."""

    gap: str
    text: str


class Passages:
    """Draws passages from one text with one tokenizer. Paragraphs are separated by an empty line."""

    def __init__(self, text: str, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._sizes: dict[str, int] = {}
        self._sentences: list[Sentence] = []
        for paragraph in text.split("\n\n"):
            gap = "\n\n"
            for sentence in _SENTENCE_GAP.split(paragraph.strip()):
                self._sentences.append(Sentence(gap, sentence))
                gap = " "

    def draw(self, rng: Random, tokens: int) -> list[Sentence]:
        """Sentences in a row of about `tokens` tokens, at least one, from a random one on."""
        at = rng.randrange(len(self._sentences))
        drawn = [self._sentences[at]]
        taken = self.size(drawn[0].text)
        while True:
            at = (at + 1) % len(self._sentences)
            taken += self.size(self._sentences[at].text)
            if taken > tokens:
                return drawn
            drawn.append(self._sentences[at])

    def size(self, text: str) -> int:
        """Tokens of a text, counted once."""
        size = self._sizes.get(text)
        if size is None:
            size = self._sizes[text] = len(self._tokenizer.encode(text))
        return size


def joined(sentences: list[Sentence]) -> str:
    """The text of sentences in a row."""
    return "".join(sentence.gap + sentence.text for sentence in sentences).strip()
