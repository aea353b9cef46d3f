"""RULER's cwe: the ten words that a numbered list holds most often
(scripts/data/synthetic/common_words_extraction.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from tasks.fields import require_int
from tasks.ruler.frame import Draft, RulerTask, opening_and_question
from tasks.ruler.wordlists import ADJECTIVES, NOUNS, VERBS, all_words, lists_digest

COMMON = 10
"""Words to find, as the template says."""

SHORT = 4096
"""Below this length the lists are those of `SHORT_REPEATS`, whatever the fields say."""

SHORT_REPEATS = (6, 1)

EXAMPLE = (40, 10, 3)
SHORT_EXAMPLE = (20, 3, 1)
"""Words of the solved example, and how often a common and another word stand in it."""


@dataclass(kw_only=True)
class RulerCommonWords(RulerTask):
    """Ten words stand `common_repeats` times each in the list, all others `other_repeats` times.

    A solved example opens the prompt. Lengths below 4096 have 6 and 1 repeats and a smaller example.
    """

    name: ClassVar[str] = "ruler_cwe"
    max_new_tokens = 120
    template = (
        "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that "
        "appear most often.\n{context}\nQuestion: What are the 10 most common words in the above list?"
    )
    answer_prefix = " Answer: The top 10 words that appear most often in the list are:"

    common_repeats: int = 30
    other_repeats: int = 3

    def check(self) -> None:
        """See RulerTask."""
        require_int("other_repeats", self.other_repeats, 1, 1000)
        require_int("common_repeats", self.common_repeats, self.other_repeats + 1, 10_000, "more than other_repeats")

    def material(self) -> list[str]:
        """See RulerTask."""
        return [lists_digest(NOUNS, ADJECTIVES, VERBS)]

    def draft(self, rng: Random, subject: int, length: int, tokens: Callable[[str], int]) -> Draft:
        """See RulerTask."""
        short = length < SHORT
        shown, *shown_repeats = SHORT_EXAMPLE if short else EXAMPLE
        repeats = SHORT_REPEATS if short else (self.common_repeats, self.other_repeats)
        words = all_words()
        opening, question = opening_and_question(self.template)
        example = rng.sample(words, shown)
        solved = _listed(example, *shown_repeats, seed=rng.getrandbits(64))
        answer = " ".join(f"{place}. {word}" for place, word in enumerate(example[:COMMON], start=1))
        before = f"{opening}{solved}{question}{self.answer_prefix} {answer}\n{opening}"
        drawn, seed = rng.sample(words, len(words)), rng.getrandbits(64)
        return Draft(
            context=lambda units: before + _listed(drawn[:units], *repeats, seed=seed),
            question=question,
            answer_prefix=self.answer_prefix,
            references=tuple(drawn[:COMMON]),
            least=COMMON + 1,
            most=len(words),
        )


def _listed(words: list[str], common_repeats: int, other_repeats: int, *, seed: int) -> str:
    """The numbered list in which the first ten words are the common ones."""
    entries = words[:COMMON] * common_repeats + words[COMMON:] * other_repeats
    Random(seed).shuffle(entries)
    return " ".join(f"{place}. {word}" for place, word in enumerate(entries, start=1))
