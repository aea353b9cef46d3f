"""What a task is: examples made with a tokenizer, and a score for a prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

Label = int | float | str


class Tokenizer(Protocol):
    """Text to token ids and back. `encode` adds no special tokens."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


@dataclass(frozen=True)
class Example:
    """One question about one context.

    `references` are the accepted answers, the canonical one first. `max_new_tokens` holds the longest
    reference and the stop token. `context_tokens`, when set, is the exact number of tokens that a prompt
    keeps of the context; what is too many stands at its front and is filler. `padding` is filler for the
    question's block when the question has prefilled blocks of its own.
    """

    id: str
    context: str
    question: str
    references: tuple[str, ...]
    max_new_tokens: int
    labels: dict[str, Label] = field(default_factory=dict)
    context_tokens: int | None = None
    padding: str = ""


@dataclass(frozen=True)
class Score:
    """`value` is from 0 to 1; `exact` says whether the normalised prediction equals a reference."""

    value: float
    exact: bool


class Task(ABC):
    """A source of examples with stable ids. `question` says where the question stands: see tasks.prompt."""

    name: ClassVar[str]
    question: str

    @property
    @abstractmethod
    def content_hash(self) -> str:
        """Hex digest of everything that determines the examples of a seed, but for the tokenizer."""

    def check_block_size(self, block_size: int) -> None:  # noqa: B027 - most tasks can be cut to any
        """Raise TaskError when prompts of this task cannot be cut into blocks of `block_size` tokens."""

    @abstractmethod
    def examples(self, tokenizer: Tokenizer, count: int, seed: int, block_size: int) -> list[Example]:
        """The first `count` examples of a seed. Example i does not depend on `count`."""

    @abstractmethod
    def score(self, example: Example, prediction: str) -> Score:
        """Score the text of a prediction, without stop and special tokens."""
