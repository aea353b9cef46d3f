"""RULER's eight needle tasks: find the values of some keys among filler (scripts/data/synthetic/niah.py)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from tasks.corpus import corpus
from tasks.errors import unknown_name
from tasks.fields import require_int
from tasks.ruler.frame import Draft, RulerTask, opening_and_question
from tasks.ruler.haystacks import NOISE, essay
from tasks.ruler.wordlists import ADJECTIVES, NOUNS, lists_digest, word_list
from tasks.task import Evidence

NEEDLE = "One of the special magic {type_needle_v} for {key} is: {value}."

DEPTHS = tuple(round(100 * step / 39) for step in range(40))
"""Percent of the essay's sentences that stand before a needle."""

FILLERS = ("noise", "essay", "needle")

TYPES = ("words", "numbers", "uuids")


@dataclass(kw_only=True)
class RulerNeedles(RulerTask):
    """Needles `One of the special magic numbers for {key} is: {value}.` in filler.

    filler: `noise` (five sentences again and again), `essay` (running text), or `needle` (other needles).
    haystack: the running text, see tasks.corpus.
    key_type, value_type: `words` (adjective-noun), `numbers` (7 digits), or `uuids`.
    keys: keys with needles; values: needles of each; queries: how many keys are asked for. There are at least as many
    keys as queries.

    Label `depth`, where one needle alone answers: the share of the filler before it.
    """

    name: ClassVar[str] = "ruler_niah"
    max_new_tokens = 128
    template = (
        "Some special magic {type_needle_v} are hidden within the following text. Make sure to memorize it. "
        "I will quiz you about the {type_needle_v} afterwards.\n{context}\n"
        "What are all the special magic {type_needle_v} for {query} mentioned in the provided text?"
    )
    answer_prefix = " The special magic {type_needle_v} for {query} mentioned in the provided text are"

    filler: str = "noise"
    haystack: str = "novels"
    key_type: str = "words"
    value_type: str = "numbers"
    keys: int = 1
    values: int = 1
    queries: int = 1

    def check(self) -> None:
        """See RulerTask."""
        if self.filler not in FILLERS:
            raise unknown_name("filler", self.filler, FILLERS)
        for field, kind in (("key_type", self.key_type), ("value_type", self.value_type)):
            if kind not in TYPES:
                raise unknown_name(field, kind, TYPES)
        require_int("values", self.values, 1, len(DEPTHS))
        most, why = len(DEPTHS) // self.values, f"a needle for each of {len(DEPTHS)} depths"
        require_int("queries", self.queries, 1, most, why)
        require_int("keys", self.keys, 1, most, why)
        self.keys = max(self.keys, self.queries)

    def material(self) -> list[str]:
        """See RulerTask."""
        digests = [NEEDLE, NOISE]
        if self.filler == "essay":
            digests.append(corpus(self.haystack).digest)
        if "words" in (self.key_type, self.value_type):
            digests.append(lists_digest(ADJECTIVES, NOUNS))
        return digests

    def draft(self, rng: Random, subject: int, length: int, tokens: Callable[[str], int]) -> Draft:
        """See RulerTask."""
        keys, values = _distinct(self.key_type, rng), _distinct(self.value_type, rng)
        told = {next(keys): [next(values) for _ in range(self.values)] for _ in range(self.keys)}
        needles = [self._needle(key, value) for key, given in told.items() for value in given]
        rng.shuffle(needles)
        queries = rng.sample(list(told), self.queries)
        answers = tuple(value for query in queries for value in told[query])
        single = len(answers) == 1
        template, prefix = (_one(text) if single else text for text in (self.template, self.answer_prefix))
        words = {
            "type_needle_v": self.value_type.removesuffix("s") if single else self.value_type,
            "query": ", ".join(queries[:-1]) + ", and " + queries[-1] if len(queries) > 1 else queries[0],
        }
        opening, question = opening_and_question(template, **words)
        if self.filler == "essay":
            percents = sorted(rng.sample(DEPTHS, len(needles)))
            depths = [percent / 100 for percent in percents]
            hay = self._essay(needles, percents)
        else:
            depths = sorted(rng.random() for _ in needles)
            hay = self._lines(needles, depths, (self._needle(key, value) for key, value in zip(keys, values)))
        asked = needles.index(self._needle(queries[0], answers[0]))
        return Draft(
            context=lambda units: opening + hay(units),
            question=question,
            answer_prefix=prefix.format(**words),
            references=answers,
            labels={"depth": round(depths[asked], 2)} if single else {},
            evidence=tuple(Evidence(self._needle(key, value), value) for key in queries for value in told[key]),
        )

    def _essay(self, needles: list[str], percents: list[int]) -> Callable[[int], str]:
        """Needles between the sentences of the first words of the running text, at growing depths."""
        text = essay(corpus(self.haystack).text)

        def hay(units: int) -> str:
            places = [text.place(units, percent) for percent in percents]
            parts: list[str] = []
            for first, place, needle in zip([0, *places], places, needles):
                parts += [text.words(first, place), needle]
            return " ".join([*parts, text.words(places[-1], units)])

        return hay

    def _lines(self, needles: list[str], depths: list[float], others: Iterator[str]) -> Callable[[int], str]:
        """Needles among lines of noise, or of other needles, at growing depths."""
        drawn: list[str] = []

        def hay(units: int) -> str:
            if self.filler == "noise":
                lines = [NOISE] * units
            else:
                drawn.extend(next(others) for _ in range(units - len(drawn)))
                lines = drawn[:units]
            for depth, needle in reversed(list(zip(depths, needles))):
                lines.insert(int(depth * units), needle)
            return "\n".join(lines)

        return hay

    def _needle(self, key: str, value: str) -> str:
        return NEEDLE.format(type_needle_v=self.value_type, key=key, value=value)


def _one(text: str) -> str:
    """A text about several values, for one (niah.py, generate_input_output)."""
    return text.replace("Some", "A").replace("are all", "is").replace("are", "is")


def _distinct(kind: str, rng: Random) -> Iterator[str]:
    """Keys or values of one type without end, no two the same. It draws from a generator of its own."""
    own = Random(rng.getrandbits(64))
    seen: set[str] = set()
    while True:
        drawn = _drawn(kind, own)
        if drawn not in seen:
            seen.add(drawn)
            yield drawn


def _drawn(kind: str, rng: Random) -> str:
    if kind == "numbers":
        return str(rng.randint(10**6, 10**7 - 1))
    if kind == "uuids":
        return str(uuid.UUID(int=rng.getrandbits(128), version=4))
    return f"{rng.choice(word_list(ADJECTIVES))}-{rng.choice(word_list(NOUNS))}"
