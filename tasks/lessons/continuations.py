"""Lessons of plain prose: how a novel goes on, without chat template and without a question."""

from __future__ import annotations

from random import Random

from tasks.lessons.lesson import Branch, Lesson
from tasks.lessons.passages import Passages, joined
from tasks.task import Tokenizer

FEWEST, MOST = 32, 96
"""Tokens of a continuation."""


def continuation_lesson(rng: Random, tokenizer: Tokenizer, passages: Passages, length: int, branches: int) -> Lesson:
    """The context's own continuation, and those of other passages that begin behind the context.

    The beginning of another passage is that branch's prompt.
    """
    tokens = tokenizer.encode(joined(passages.draw(rng, length + 2 * MOST)))
    kept = max(1, len(tokens) - rng.randrange(FEWEST, MOST + 1))
    made = [Branch([], tokens[kept : kept + MOST], "plain", False)]
    while len(made) < branches:
        other = tokenizer.encode("\n\n" + joined(passages.draw(rng, 3 * MOST)))
        start = min(rng.randrange(12, 64), len(other) // 2)
        stop = start + rng.randrange(FEWEST, MOST + 1)
        made.append(Branch(other[:start], other[start:stop], "plain", False))
    return Lesson(tokens[:kept], made)
