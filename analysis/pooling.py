"""Answers under several seeds, pooled by example.

Ids of generated examples carry the seed: every seed brings new examples. Fixed data is only shuffled by the seed: the
same question under eight seeds is one example, asked eight times, and its answers say nothing about other questions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

Answer = tuple[int, str]
"""Seed and example id."""


def by_example(values: Mapping[Answer, float]) -> dict[str, float]:
    """The mean of the values of each example over its seeds, by example id."""
    found: dict[str, list[float]] = defaultdict(list)
    for (_, example), value in values.items():
        found[example].append(value)
    return {example: sum(own) / len(own) for example, own in found.items()}
