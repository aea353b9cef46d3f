"""A needle in a haystack, as first published: one odd sentence in long prose, and a question about it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from tasks.corpus import corpus
from tasks.drawn import Draw, Drawn, DrawnTask
from tasks.errors import refused
from tasks.fields import require_int, require_sizes
from tasks.haystack import Insert
from tasks.prose import Prose
from tasks.task import Evidence, Example, Score, Tokenizer

MAX_LENGTH = 4_194_304

STOP_WORDS = frozenset(
    "a about am an and any are as at be been but by can could did do does for from had has have he her here his how i "
    "if in into is it its me my no nor not of on one or our over she should so some such than that the their them then "
    "there these they this those to too under up upon very was we were what when where which while who whom whose why "
    "will with would you your".split()
)
"""Words that no needle is known by."""


@dataclass(kw_only=True)
class HaystackTask(DrawnTask):
    """A grid of lengths and depths over prose.

    haystack: `novels` or a folder of .txt files, see tasks.corpus; it starts over where it is shorter than a length.
    lengths: tokens of prompt and answer; one number or several. The context has `buffer` tokens fewer, which are left
    for instruction, question, chat template and answer, as in gkamradt/LLMTest_NeedleInAHaystack
    (llm_needle_haystack_tester.py, insert_needle). See tasks.prose for how exactly lengths and depths are kept.
    """

    elsewhere: ClassVar[frozenset[str]] = frozenset({"haystack"})

    lengths: int | Sequence[int] = (1024, 2048, 4096, 8192)
    haystack: str = "novels"
    buffer: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int("buffer", self.buffer, 0, MAX_LENGTH)
        self.lengths = require_sizes("lengths", self.lengths, self.buffer + 1, MAX_LENGTH, "the buffer is taken off")

    def sizes(self) -> tuple[int, ...]:
        """See DrawnTask: the lengths."""
        return require_sizes("lengths", self.lengths, 1, MAX_LENGTH)

    def context_lengths(self) -> tuple[int, ...]:
        """See Task."""
        return self.sizes()

    def material(self) -> list[str]:
        """See DrawnTask."""
        return [corpus(self.haystack).digest]

    def prose(self, tokenizer: Tokenizer) -> Prose:
        """The haystack for one tokenizer."""
        return Prose(corpus(self.haystack).text, tokenizer)


@dataclass(kw_only=True)
class Needle(HaystackTask):
    """Greg Kamradt's test (github.com/gkamradt/LLMTest_NeedleInAHaystack): needle, question and prompt are its own, see
    its providers/openai.py; its 35 x 35 grid is task=needle_grid.

    Different from there: the haystack is another and begins at a random paragraph, so that examples of one cell differ;
    its three messages are one user turn; a full stop within a closing quotation counts, the one of `Mr.` does not; the
    answer has 128 tokens instead of 300, which the buffer does not hold; and no model grades it.

    Value: share of the needle's content words that the answer has, from 0 to 1. Content words are the different words
    of the needle, case folded, that are neither STOP_WORDS nor words of the question. Exact: all of them. Neither says
    anything about what else the answer holds.
    """

    name: ClassVar[str] = "needle"
    metric = "recall of the needle's content words"

    needle: str = "\nThe best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny day.\n"
    retrieval_question: str = "What is the best thing to do in San Francisco?"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("needle", "retrieval_question"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name).strip():
                raise refused(name, getattr(self, name), "allowed are texts that are not empty")
        if not self.content_words():
            raise refused("needle", self.needle, "it needs words that are neither stop words nor in the question")

    def content_words(self) -> frozenset[str]:
        """What an answer must tell."""
        return frozenset(_words(self.needle)) - STOP_WORDS - frozenset(_words(self.retrieval_question))

    def drawer(self, tokenizer: Tokenizer) -> Draw:
        """See DrawnTask."""
        prose = self.prose(tokenizer)

        def draw(rng: Random, length: int, depth: float | None) -> Drawn:
            text = prose.build([Insert(self.needle, depth)], length - self.buffer, rng, gap="")
            return Drawn(
                "You are a helpful AI bot that answers questions for a user. Keep your response short and direct\n\n"
                + text,
                f"\n\n{self.retrieval_question} Don't give information outside the document or repeat your findings",
                (self.needle.strip(),),
                {"length": length},
                evidence=(Evidence(self.needle.strip(), self.needle.strip()),),
            )

        return draw

    def score(self, example: Example, prediction: str) -> Score:
        """See Task."""
        wanted = self.content_words()
        found = wanted.intersection(_words(prediction))
        return Score(len(found) / len(wanted), found == wanted)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
