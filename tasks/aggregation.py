"""The most frequent word: evidence that is spread over the whole context."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from tasks.errors import refused
from tasks.fields import require_int
from tasks.generated import Draft, GeneratedTask
from tasks.haystack import Insert
from tasks.scoring import exact_match
from tasks.task import Example, Score


@dataclass(kw_only=True)
class Aggregation(GeneratedTask):
    """The context holds `votes` votes for `candidates` words at random places; the winner is asked for.

    The winner has at least `margin` votes more than the second, every candidate at least one.
    Value: 1 for the winner, else 0.
    """

    name: ClassVar[str] = "aggregation"
    candidates: int = 6
    votes: int = 60
    margin: int = 5

    def check(self) -> None:
        require_int("candidates", self.candidates, 2, 12)
        require_int("votes", self.votes, 1, 100_000)
        require_int("margin", self.margin, 1, 100_000)
        least = self.candidates + self.margin
        if self.votes < least:
            raise refused("votes", self.votes, f"allowed is {least} or more: one a candidate and the margin")

    def draft(self, rng: Random, length: int, depth: float | None) -> Draft:
        language = self.speaker()
        words = rng.sample(language.values, self.candidates)
        counts = [1] * self.candidates
        for drawn in rng.choices(range(self.candidates), k=self.votes - self.candidates - self.margin):
            counts[drawn] += 1
        counts.sort(reverse=True)
        counts[0] += self.margin
        return Draft(
            [Insert(language.vote(word)) for word, count in zip(words, counts, strict=True) for _ in range(count)],
            language.vote_question(),
            (words[0],),
            {"candidates": self.candidates, "votes": self.votes, "lead": counts[0] - counts[1]},
        )

    def score(self, example: Example, prediction: str) -> Score:
        exact = exact_match(prediction, example.references)
        return Score(float(exact), exact)
