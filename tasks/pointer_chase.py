"""A chain of links to follow: where a selection made before the first hop is known can fail."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import ClassVar

from tasks.errors import refused
from tasks.fields import require_int
from tasks.generated import Draft, GeneratedTask
from tasks.haystack import Insert
from tasks.scoring import exact_match, leading_recall
from tasks.task import Evidence, Example, Score

MAX_HOPS = 8


@dataclass(kw_only=True)
class PointerChase(GeneratedTask):
    """The context holds `chains` chains of `hops` links, all keys different, all links at random places.

    Asked is where one chain leads; the answer names every key on the way. The other chains are decoys.
    Value: share of the hops that are right up to the first mistake.
    """

    name: ClassVar[str] = "pointer_chase"
    hops: int = 3
    chains: int = 8

    def check(self) -> None:
        require_int("hops", self.hops, 1, MAX_HOPS)
        require_int("chains", self.chains, 1, len(self.speaker().keys))
        most = len(self.speaker().keys) // (self.hops + 1)
        if self.chains > most:
            raise refused("chains", self.chains, f"allowed is at most {most} with hops={self.hops}: keys do not repeat")

    def draft(self, rng: Random, length: int, depth: float | None) -> Draft:
        language = self.speaker()
        size = self.hops + 1
        keys = rng.sample(language.keys, self.chains * size)
        chains = [keys[i : i + size] for i in range(0, len(keys), size)]
        links = [Insert(language.link(a, b)) for chain in chains for a, b in pairwise(chain)]
        start, *path = chains[0]
        return Draft(
            links,
            language.link_question(start, self.hops),
            language.link_answers(path),
            {"hops": self.hops, "chains": self.chains},
            tuple(Evidence(language.link(a, b), b) for a, b in pairwise(chains[0])),
        )

    def score(self, example: Example, prediction: str) -> Score:
        reference = example.references[0]
        return Score(leading_recall(prediction, reference), exact_match(prediction, example.references))
