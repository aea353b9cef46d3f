"""One key with many values: answers that fill a block or several."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from tasks.fields import require_int
from tasks.generated import DeepTask, Draft
from tasks.haystack import Insert
from tasks.scoring import exact_match, ordered_recall
from tasks.task import Evidence, Example, Score


@dataclass(kw_only=True)
class MultiValue(DeepTask):
    """The context holds the codes of `keys` keys, each of `values` different words; one code is asked for.

    The answer runs over several blocks, so that committed blocks are read again. `depths` places the code
    asked for. Value: share of the code's words that stand at their place.
    """

    name: ClassVar[str] = "multi_value"
    keys: int = 8
    values: int = 24

    def check(self) -> None:
        require_int("keys", self.keys, 1, len(self.speaker().keys))
        require_int("values", self.values, 2, 80)

    def draft(self, rng: Random, length: int, depth: float | None) -> Draft:
        language = self.speaker()
        keys = rng.sample(language.keys, self.keys)
        codes = [rng.sample(language.values, self.values) for _ in keys]
        inserts = [Insert(language.code(keys[0], codes[0]), depth)]
        inserts += [Insert(language.code(key, code)) for key, code in zip(keys[1:], codes[1:], strict=True)]
        return Draft(
            inserts,
            language.code_question(keys[0]),
            language.code_answers(codes[0]),
            {"keys": self.keys, "values": self.values},
            (Evidence(inserts[0].text, language.code_answers(codes[0])[0]),),
        )

    def score(self, example: Example, prediction: str) -> Score:
        reference = example.references[0]
        return Score(ordered_recall(prediction, reference), exact_match(prediction, example.references))
