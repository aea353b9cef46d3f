"""The mixture of lessons a block adapter learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np

from tasks.corpus import corpus
from tasks.errors import TaskError
from tasks.lessons import wordings
from tasks.lessons.aggregates import Aggregates
from tasks.lessons.continuations import continuation_lesson
from tasks.lessons.copies import copy_branch
from tasks.lessons.frame import Frame, frame
from tasks.lessons.lesson import Lesson
from tasks.lessons.needles import Needles
from tasks.lessons.passages import Passages, Sentence, joined
from tasks.lessons.samples import Samples
from tasks.task import Tokenizer

KINDS = ("needle", "copy", "aggregate", "plain", "sampled")
WEIGHTS = {"needle": 0.5, "copy": 0.08, "aggregate": 0.1, "plain": 0.1, "sampled": 0.22}
LENGTHS = ((100, 700, 0.75), (700, 1400, 0.2), (1400, 2000, 0.05))


@dataclass(frozen=True)
class LessonMix:
    """weights: how often a lesson of each kind is drawn, in any unit; without `sampled` its weight counts as 0.
    lengths: (fewest, most, weight) of a context's tokens, drawn evenly between. branches: fewest and most of a lesson.
    sampled: the file with the base model's own answers, see tasks.lessons.samples. haystack: see tasks.corpus. system:
    share of lessons that keep the template's default system prompt. settled: see tasks.lessons.needles. Raises
    TaskError.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    lengths: Sequence[Sequence[float]] = LENGTHS
    branches: Sequence[int] = (5, 8)
    sampled: str | None = None
    haystack: str = "novels_train"
    system: float = 0.0
    settled: bool = False

    def __post_init__(self) -> None:
        for kind, weight in self.weights.items():
            if kind not in KINDS:
                raise _refused("weights", kind, f"allowed are {', '.join(KINDS)}")
            if weight < 0:
                raise _refused("weights", f"{kind}: {weight}", "allowed are numbers from 0 on")
        if not any(weight for kind, weight in self.weights.items() if kind != "sampled" or self.sampled):
            raise _refused("weights", dict(self.weights), "one must be above 0, and `sampled` needs a file of samples")
        for fewest, most, weight in self.lengths:
            if not 50 <= fewest <= most or weight < 0:
                raise _refused("lengths", [fewest, most, weight], "allowed are (fewest from 50 on, most, weight)")
        if not 1 <= self.branches[0] <= self.branches[1]:
            raise _refused("branches", list(self.branches), "allowed are fewest and most, from 1 on")
        if not 0 <= self.system <= 1:
            raise _refused("system", self.system, "allowed are shares from 0 to 1")

    def lessons(self, tokenizer: Tokenizer, stop_id: int) -> Lessons:
        """The lessons for one tokenizer; `stop_id` ends whole answers. Reads the files."""
        return Lessons(self, tokenizer, stop_id)


class Lessons:
    """Draws lessons. The same state of the generator gives the same lesson."""

    kinds: Sequence[str] = KINDS

    def __init__(self, mix: LessonMix, tokenizer: Tokenizer, stop_id: int) -> None:
        self._mix = mix
        self._tokenizer = tokenizer
        self._frames = [frame(tokenizer, stop_id), frame(tokenizer, stop_id, system=True)]
        self._passages = Passages(corpus(mix.haystack).text, tokenizer)
        self._samples = Samples(mix.sampled) if mix.sampled else None
        self._weights = {kind: w for kind, w in mix.weights.items() if kind != "sampled" or self._samples}

    def draw(self, rng: np.random.Generator) -> Lesson:
        """The next lesson."""
        own = Random(int(rng.integers(2**63)))
        kind = own.choices(list(self._weights), list(self._weights.values()))[0]
        fewest, most = self._mix.branches
        branches = own.randint(fewest, most)
        shares = [weight for _, _, weight in self._mix.lengths]
        low, high, _ = own.choices(self._mix.lengths, shares)[0]
        length = own.randint(int(low), int(high))
        if kind == "sampled" and self._samples is not None:
            return self._samples.draw(own, branches)
        if kind == "plain":
            return continuation_lesson(own, self._tokenizer, self._passages, length, branches)
        framed = self._frames[own.random() < self._mix.system]
        gap = "\n\n" if own.random() < 0.75 else "\n"
        if kind == "needle":
            return self._needles(own, framed, length, branches, gap)
        if kind == "copy":
            return self._copies(own, framed, length, branches, gap)
        return self._aggregates(own, framed, length, branches, gap)

    def _needles(self, rng: Random, framed: Frame, length: int, branches: int, gap: str) -> Lesson:
        needles = Needles(rng, self._mix.settled)
        prose = self._prose(rng, length, sum(self._passages.size(told) for told in needles.told))
        text = needles.hidden_in(rng, prose)
        made = [needles.branch(rng, framed, gap) for _ in range(branches - 1)]
        made.append(copy_branch(rng, framed, self._passages, text, gap))
        announced = needles.question(rng).text if rng.random() < 0.08 else ""
        return Lesson(framed.context(_introduced(rng, text, announced), gap), made)

    def _copies(self, rng: Random, framed: Frame, length: int, branches: int, gap: str) -> Lesson:
        text = self._prose(rng, length, 0)
        made = [copy_branch(rng, framed, self._passages, text, gap) for _ in range(branches)]
        return Lesson(framed.context(_introduced(rng, text), gap), made)

    def _aggregates(self, rng: Random, framed: Frame, length: int, branches: int, gap: str) -> Lesson:
        material = Aggregates(rng)
        text = material.hidden_in(rng, [] if material.alone else self._prose(rng, length, 0))
        made = [material.branch(rng, framed, gap) for _ in range(branches)]
        return Lesson(framed.context(_introduced(rng, text), gap), made)

    def _prose(self, rng: Random, length: int, taken: int) -> list[Sentence]:
        return self._passages.draw(rng, max(40, length - taken - 20))


def _introduced(rng: Random, text: list[Sentence], announced: str = "") -> str:
    """The text with an introduction, with what will be asked, or as it is."""
    parts = [rng.choice(wordings.INTRODUCTIONS)] if rng.random() < 0.8 else []
    if announced:
        parts.append(f"You will be asked: {announced}")
    return "\n\n".join([*parts, joined(text)])


def _refused(field_name: str, value: object, allowed: str) -> TaskError:
    return TaskError(f"lessons.{field_name}={value!r}: {allowed}")
