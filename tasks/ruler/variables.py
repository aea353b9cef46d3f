"""RULER's vt: variables that are assigned one another, hidden in noise
(scripts/data/synthetic/variable_tracking.py)."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import ClassVar

from tasks.fields import require_int
from tasks.ruler.frame import Draft, RulerTask, opening_and_question
from tasks.ruler.haystacks import NOISE
from tasks.ruler.sizing import most_units

EXAMPLE_TOKENS = 500
"""Tokens of the solved example that opens a prompt, at most (main)."""

NAME_LETTERS = 5
EXAMPLE_LETTERS = 3


@dataclass(kw_only=True)
class RulerVariables(RulerTask):
    """Find all variables that hold a value. A solved example of shorter names opens the prompt.

    chains: values, each with variables of its own; the first is asked for. hops: assignments behind a value's first.

    Where half of the prompt has no room for the script's 500 tokens of example, the example is as long as that half.
    """

    name: ClassVar[str] = "ruler_vt"
    max_new_tokens = 30
    template = (
        "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n{context}\n"
        "Question: Find all variables that are assigned the value {query} in the text above."
    )
    answer_prefix = (
        " Answer: According to the chain(s) of variable assignment in the text above, {num_v} variables are assigned "
        "the value {query}, they are: "
    )

    chains: int = 1
    hops: int = 4

    def check(self) -> None:
        """See RulerTask."""
        require_int("chains", self.chains, 1, 100)
        require_int("hops", self.hops, 1, 99)

    def material(self) -> list[str]:
        """See RulerTask."""
        return [NOISE]

    def draft(self, rng: Random, subject: int, length: int, tokens: Callable[[str], int]) -> Draft:
        """See RulerTask."""
        values = rng.sample(range(10_000, 99_999), 2 * self.chains)
        example = self._solved(rng, values[self.chains :])
        budget = min(EXAMPLE_TOKENS, (length - self.max_new_tokens) // 2)
        least = self.hops + 1  # a chain's lines stand in different places
        shown = most_units(lambda units: tokens(example(units)), budget, least) or least
        chains = self._chains(rng, values[: self.chains], NAME_LETTERS)
        opening, question, prefix = self._wording(values[0])
        hay = _hidden(chains, rng)
        before = f"{example(shown)}\n\n{opening}"
        return Draft(
            context=lambda units: before + hay(units),
            question=question,
            answer_prefix=prefix,
            references=tuple(chains[0]),
            least=least,
        )

    def _chains(self, rng: Random, values: list[int], letters: int) -> list[dict[str, str]]:
        """For each value, its variables in order and the line that assigns each. No two have one name."""
        names: dict[str, None] = {}
        while len(names) < len(values) * (self.hops + 1):
            names["".join(rng.choices(string.ascii_uppercase, k=letters))] = None
            names.pop("VAR", None)  # would read as the keyword
        listed = list(names)
        chains = []
        for index, value in enumerate(values):
            own = listed[index * (self.hops + 1) : (index + 1) * (self.hops + 1)]
            lines = [f"VAR {own[0]} = {value}"]
            lines += [f"VAR {name} = VAR {last} " for last, name in pairwise(own)]
            chains.append(dict(zip(own, lines, strict=True)))
        return chains

    def _solved(self, rng: Random, values: list[int]) -> Callable[[int], str]:
        """A whole prompt with its answer, with a number of lines of noise."""
        chains = self._chains(rng, values, EXAMPLE_LETTERS)
        opening, question, prefix = self._wording(values[0])
        hay = _hidden(chains, rng)
        answer = " ".join(chains[0])
        return lambda units: f"{opening}{hay(units)}{question}{prefix} {answer}"

    def _wording(self, value: int) -> tuple[str, str, str]:
        opening, question = opening_and_question(self.template, query=value)
        return opening, question, self.answer_prefix.format(num_v=self.hops + 1, query=value)


def _hidden(chains: list[dict[str, str]], rng: Random) -> Callable[[int], str]:
    """The lines of all chains, each chain in order, in a number of lines of noise."""
    seed = rng.getrandbits(64)

    def hay(units: int) -> str:
        places = Random(seed)
        lines = [NOISE] * units
        for chain in chains:
            for moved, (place, line) in enumerate(
                zip(sorted(places.sample(range(len(lines)), len(chain))), chain.values(), strict=True)
            ):
                lines.insert(place + moved, line)
        return "\n".join(lines).replace(". \n", ".\n")

    return hay
