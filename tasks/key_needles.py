"""Key-value needles in prose: secrets of cities, some of which are asked for."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, ClassVar

from tasks.drawn import Asked, Draw, Drawn
from tasks.errors import refused, unknown_name
from tasks.fields import require_int
from tasks.haystack import Insert
from tasks.needle import HaystackTask
from tasks.needle_words import DIGITS, SPLITS, VALUES, draw_values, is_value, split_named
from tasks.task import Evidence, Example, Score, Tokenizer

MAX_ASKED = 8


@dataclass(kw_only=True)
class KeyNeedles(HaystackTask):
    """The prose holds `needles` sentences like `The secret number of Berlin is 48213.`; the question asks for `asked`.

    The needles that are not asked for have the same forms and distract. `depths` places one of the needles asked for;
    the others stand behind random full stops. `questions` about one context each ask for needles of their own, as many
    as `asked`: the placed needle is one of the first question's, those of the others all have random depths. values:
    `number` (5 digits), `name` or `word`. split: `test`, or `train`, whose templates, cities and values are others
    (tasks.needle_words).

    Value: share of the asked values that stand in the answer as whole words or numbers; case, the commas of thousands
    and markup do not matter. Exact: the answer holds the asked values in the asked order and no other value of the
    kind, so that an answer which lists every needle is not exact.
    """

    name: ClassVar[str] = "needle_kv"
    metric = "share of the asked values"

    needles: int = 4
    asked: int = 1
    questions: int = 1
    values: str = "number"
    split: str = "test"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split not in SPLITS:
            raise unknown_name("split", self.split, SPLITS)
        if self.values not in VALUES:
            raise unknown_name("values", self.values, VALUES)
        require_int("needles", self.needles, 1, len(split_named(self.split).keys), "one a city")
        require_int("asked", self.asked, 1, MAX_ASKED)
        if self.asked > self.needles:
            raise refused("asked", self.asked, f"allowed is at most the number of needles, {self.needles}")
        most = self.needles // self.asked
        require_int("questions", self.questions, 1, most, f"each asks for {self.asked} of {self.needles} needles")

    @property
    def questions_per_context(self) -> int:
        """See DrawnTask."""
        return self.questions

    def told(self) -> dict[str, Any]:
        """See TextTask. One question a context is what examples were before there was a choice."""
        told = super().told()
        return told if self.questions > 1 else {name: value for name, value in told.items() if name != "questions"}

    def material(self) -> list[str]:
        """See DrawnTask."""
        words = asdict(split_named(self.split))
        return [*super().material(), *(str(words[name]) for name in sorted(words)), str(DIGITS)]

    def drawer(self, tokenizer: Tokenizer) -> Draw:
        """See DrawnTask."""
        prose = self.prose(tokenizer)
        words = split_named(self.split)

        def draw(rng: Random, length: int, depth: float | None) -> Drawn:
            keys = rng.sample(words.keys, self.needles)
            pairs = list(zip(keys, draw_values(self.split, self.values, self.needles, rng), strict=True))
            told = [
                rng.choice(words.templates).format(thing=f"secret {self.values}", key=key, value=value)
                for key, value in pairs
            ]
            sentences = dict(zip(keys, told, strict=True))
            inserts = [Insert(told[0], depth), *(Insert(text) for text in told[1:])]
            text = prose.build(inserts, length - self.buffer, rng)
            # Asked in another order than drawn, so that the placed needle has no fixed place in the answer.
            chosen = [rng.sample(pairs[i * self.asked :][: self.asked], self.asked) for i in range(self.questions)]
            first, *more = [
                Asked(
                    self._question([key for key, _ in asked]),
                    (", ".join(value for _, value in asked),),
                    tuple(Evidence(sentences[key], value) for key, value in asked),
                )
                for asked in chosen
            ]
            return Drawn(
                f"Secret {self.values}s of cities are hidden in the text below. You will be asked for them.\n\n{text}",
                first.question,
                first.references,
                {"length": length, "needles": self.needles, "asked": self.asked},
                tuple(more),
                first.evidence,
            )

        return draw

    def _question(self, keys: list[str]) -> str:
        kind = self.values
        if len(keys) == 1:
            return f"\n\nWhat is the secret {kind} of {keys[0]}? Answer with the {kind} alone."
        listed = f"{', '.join(keys[:-1])} and {keys[-1]}"
        return (
            f"\n\nWhat are the secret {kind}s of {listed}? "
            f"Answer with the {kind}s alone, in this order, separated by commas."
        )

    def score(self, example: Example, prediction: str) -> Score:
        """See Task."""
        wanted = self._given(example.references[0])
        given = self._given(prediction)
        return Score(len(set(wanted).intersection(given)) / len(wanted), given == wanted)

    def _given(self, answer: str) -> list[str]:
        """The different values of an answer, in the order of their first mention."""
        text = unicodedata.normalize("NFKC", answer).casefold()
        text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
        return list(dict.fromkeys(word for word in re.findall(r"\d+|[^\W\d_]+", text) if is_value(self.values, word)))
