"""What a model learns to write in blocks: answers behind prompts that share one context."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Branch:
    """`prompt`: clean tokens behind the context, up to where the answer begins. `answer`: the tokens to learn.

    `finished`: the answer is whole and ends with the stop token; otherwise it is cut off and does not.
    """

    prompt: list[int]
    answer: list[int]
    kind: str
    finished: bool


@dataclass(frozen=True)
class Lesson:
    """`branches` follow `context` each on its own; none sees another."""

    context: list[int]
    branches: list[Branch]
