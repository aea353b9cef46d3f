"""Interviews of the base model: contexts with requests, and which of its answers are worth learning."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tasks.corpus import corpus
from tasks.lessons.frame import frame
from tasks.lessons.needles import Needles
from tasks.lessons.passages import Passages, joined
from tasks.lessons.requests import about_passage, passage_introduction, without_passage
from tasks.task import Tokenizer

KINDS = ("passage", "needle", "chat")
WEIGHTS = (0.5, 0.2, 0.3)
"""How often an interview is about a passage, about needles in one, or about nothing given."""

_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]{2,}(?: [A-Z][a-z]+)?")


@dataclass(frozen=True)
class Interview:
    """Prompts behind one context, in tokens."""

    context: list[int]
    prompts: list[list[int]]
    kind: str


class Interviews:
    """Makes interviews out of a corpus. Interview i depends on the seed and i alone."""

    def __init__(self, tokenizer: Tokenizer, stop_id: int, haystack: str = "novels_train", seed: int = 0) -> None:
        self._frame = frame(tokenizer, stop_id)
        self._passages = Passages(corpus(haystack).text, tokenizer)
        self._seed = seed

    def interview(self, index: int, questions: int) -> Interview:
        """The one of that index; `questions` about a context, four times as many without one."""
        rng = Random(f"{self._seed}/{index}")
        kind = rng.choices(KINDS, WEIGHTS)[0]
        if kind == "chat":
            asked = dict.fromkeys(without_passage(rng) for _ in range(4 * questions))
            return Interview(self._frame.empty(), [self._frame.prompt(text, "") for text in asked], kind)
        passage = self._passages.draw(rng, rng.randint(80, 600))
        if kind == "needle":
            needles = Needles(rng)
            passage = needles.hidden_in(rng, passage)
            texts = [needles.question(rng).text for _ in range(questions)]
        else:
            names = sorted(set(_NAME.findall(joined(passage))))
            texts = about_passage(rng, names, questions)
        text = "\n\n".join(part for part in (passage_introduction(rng), joined(passage)) if part)
        return Interview(self._frame.context(text), [self._frame.prompt(asked) for asked in texts], kind)


def degenerate(answer: Sequence[int]) -> bool:
    """Whether an answer runs in circles: it says four tokens in a row four times, six three times, or little new."""
    fours, sixes = _runs(answer, 4), _runs(answer, 6)
    if not fours:
        return not answer
    return max(fours.values()) >= 4 or max(sixes.values(), default=0) >= 3 or _stale(fours)


def _runs(answer: Sequence[int], length: int) -> Counter[tuple[int, ...]]:
    return Counter(tuple(answer[at : at + length]) for at in range(len(answer) - length + 1))


def _stale(runs: Counter[tuple[int, ...]]) -> bool:
    return runs.total() >= 12 and len(runs) < 0.65 * runs.total()
