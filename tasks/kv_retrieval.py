"""Key-value pairs: one value to find among many pairs of the same form."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from tasks.fields import require_int
from tasks.generated import DeepTask, Draft
from tasks.haystack import Insert
from tasks.scoring import exact_match
from tasks.task import Evidence, Example, Score


@dataclass(kw_only=True)
class KeyValueRetrieval(DeepTask):
    """The context holds `pairs` pairs of different keys, with filler between them as far as it has room.

    `depths` places the pair asked for. Value: 1 for the right value, else 0.
    """

    name: ClassVar[str] = "kv_retrieval"
    pairs: int = 200

    def check(self) -> None:
        require_int("pairs", self.pairs, 1, len(self.speaker().keys), "one a key")

    def draft(self, rng: Random, length: int, depth: float | None) -> Draft:
        language = self.speaker()
        keys = rng.sample(language.keys, self.pairs)
        values = rng.choices(language.values, k=self.pairs)
        inserts = [Insert(language.pair(keys[0], values[0]), depth)]
        inserts += [Insert(language.pair(*pair)) for pair in zip(keys[1:], values[1:], strict=True)]
        return Draft(
            inserts,
            language.pair_question(keys[0]),
            (values[0],),
            {"pairs": self.pairs},
            (Evidence(inserts[0].text, values[0]),),
        )

    def score(self, example: Example, prediction: str) -> Score:
        exact = exact_match(prediction, example.references)
        return Score(float(exact), exact)
