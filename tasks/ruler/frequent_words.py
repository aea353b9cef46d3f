"""RULER's fwe: the three most frequent words of a text of made-up words, whose counts follow Zipf's law
(scripts/data/synthetic/freq_words_extraction.py)."""

from __future__ import annotations

import math
import string
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from tasks.errors import refused
from tasks.ruler.frame import Draft, RulerTask, opening_and_question

LETTERS = 6

TOKENS_PER_WORD = 50
"""The text knows one word for so many tokens of the length without the answer (sys_kwext)."""

DOTS = "..."
"""Stands where the most frequent word would."""

ASKED = 3


@dataclass(kw_only=True)
class RulerFrequentWords(RulerTask):
    """Words of rank k stand int(n k^-alpha / zeta(alpha)) times in a text; rank 1 is dots, ranks 2 to 4 are asked for.

    alpha: how fast the counts fall, above 1.

    n is large enough that ranks 4 and 5 differ by a whole word, so that there is one answer: a length without room for
    that is refused.
    """

    name: ClassVar[str] = "ruler_fwe"
    version: ClassVar[int] = 2
    max_new_tokens = 50
    template = (
        "Read the following coded text and track the frequency of each coded word. Find the three most frequently "
        "appeared coded words. {context}\nQuestion: Do not provide any explanation. Please ignore the dots '....'. "
        "What are the three most frequently appeared words in the above coded text?"
    )
    answer_prefix = " Answer: According to the coded text above, the three most frequently appeared words are:"

    alpha: float = 2.0

    def check(self) -> None:
        """See RulerTask."""
        if isinstance(self.alpha, bool) or not isinstance(self.alpha, int | float) or not 1.1 <= self.alpha <= 10:
            raise refused("alpha", self.alpha, "allowed are numbers from 1.1 to 10")
        self.alpha = float(self.alpha)
        shortest = TOKENS_PER_WORD * (1 + ASKED) + self.max_new_tokens
        for length in self.context_lengths():
            if length < shortest:
                raise refused("lengths", length, f"allowed are numbers from {shortest}")

    def material(self) -> list[str]:
        """See RulerTask."""
        return [DOTS, str(LETTERS), str(TOKENS_PER_WORD)]

    def draft(self, rng: Random, subject: int, length: int, tokens: Callable[[str], int]) -> Draft:
        """See RulerTask."""
        known: dict[str, None] = {}
        while len(known) < (length - self.max_new_tokens) // TOKENS_PER_WORD:
            known["".join(rng.choices(string.ascii_lowercase, k=LETTERS))] = None
        vocabulary = [DOTS, *list(known)[1:]]
        shares = [rank**-self.alpha / zeta(self.alpha) for rank in range(1, len(vocabulary) + 1)]
        opening, question = opening_and_question(self.template)
        seed = rng.getrandbits(64)

        def context(units: int) -> str:
            text = [word for word, share in zip(vocabulary, shares) for _ in range(int(units * share))]
            Random(seed).shuffle(text)
            return opening + " ".join(text)

        gap = (ASKED + 1) ** -self.alpha - (ASKED + 2) ** -self.alpha
        return Draft(
            context=context,
            question=question,
            answer_prefix=self.answer_prefix,
            references=tuple(vocabulary[1 : 1 + ASKED]),
            least=math.ceil(zeta(self.alpha) / gap),
        )


def zeta(exponent: float) -> float:
    """Riemann's zeta function for a real number above 1, by the Euler-Maclaurin formula."""
    first = 50
    head = sum(number**-exponent for number in range(1, first))
    tail = first ** (1 - exponent) / (exponent - 1) + first**-exponent / 2 + exponent * first ** (-exponent - 1) / 12
    return head + tail
