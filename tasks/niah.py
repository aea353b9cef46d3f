"""Needles in a haystack: facts of one form among filler, some of which are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from tasks.errors import refused
from tasks.fields import require_int
from tasks.generated import DeepTask, Draft
from tasks.haystack import Insert
from tasks.scoring import exact_match, pair_recall
from tasks.task import Evidence, Example, Score

MAX_ASKED = 8


@dataclass(kw_only=True)
class NeedleInHaystack(DeepTask):
    """The context holds `needles` secret passphrases of as many keys; the question names `asked` of them.

    The needles that are not asked for have the same form and distract. `depths` places one of the needles
    asked for; the others stand at random places. With `asked=1` the score is that of the cell of the grid.
    Value: share of the asked keys with their right value.
    """

    name: ClassVar[str] = "niah"
    depths: float | Sequence[float] | None = None
    needles: int = 48
    asked: int = 4

    def check(self) -> None:
        require_int("needles", self.needles, 1, len(self.speaker().keys), "one a key")
        require_int("asked", self.asked, 1, MAX_ASKED)
        if self.asked > self.needles:
            raise refused("asked", self.asked, f"allowed is at most the number of needles, {self.needles}")

    def draft(self, rng: Random, length: int, depth: float | None) -> Draft:
        language = self.speaker()
        keys = rng.sample(language.keys, self.needles)
        pairs = list(zip(keys, rng.choices(language.values, k=self.needles), strict=True))
        inserts = [Insert(language.needle(*pairs[0]), depth)]
        inserts += [Insert(language.needle(*pair)) for pair in pairs[1:]]
        # Asked in another order than drawn, so that the placed needle has no fixed place in the answer.
        asked = rng.sample(pairs[: self.asked], self.asked)
        return Draft(
            inserts,
            language.needle_question([key for key, _ in asked]),
            language.needle_answers(asked),
            {"needles": self.needles, "asked": self.asked},
            tuple(Evidence(language.needle(key, value), value) for key, value in asked),
        )

    def score(self, example: Example, prediction: str) -> Score:
        exact = exact_match(prediction, example.references)
        return Score(1.0 if exact else pair_recall(prediction, example.references[0]), exact)
