"""What a task is: examples made with a tokenizer, a prompt for each, and a score for a prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

Label = int | float | str

CONTEXT = "context"
"""The label of examples that share their context with others: its name, one for each seed and context."""


class Tokenizer(Protocol):
    """Text to token ids and back. `encode` adds no special tokens; `decode` leaves them out.

    `chat` puts a text as the user's turn into the checkpoint's chat template, up to where the assistant's answer
    begins; without a template it returns the text itself.
    """

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def chat(self, text: str) -> str: ...


@dataclass(frozen=True)
class Evidence:
    """`value` is what an answer repeats of `passage`, where it stands last; the passage stands in the context once."""

    passage: str
    value: str


@dataclass(frozen=True)
class Example:
    """One question about one context.

    `references` are the accepted answers, the canonical one first. `max_new_tokens` holds the longest
    reference and the stop token, or is the benchmark's own limit. `stop_texts`: the last token of each ends an
    answer too, except as its first token.

    Of prompts laid out in blocks (tasks.prompt): `context_tokens`, when set, is the exact number of tokens that a
    prompt keeps of the context; what is too many stands at its front and is filler. `padding` is filler for the
    question's block when the question has prefilled blocks of its own.

    Of prompts that are one text (tasks.text_prompt): context and question follow each other without a separator.
    `chat`: the text is the user's turn of the chat template. `answer_prefix` opens the answer, behind the template.

    `evidence`: what of the context the answer repeats, where the task knows it; prompts and scores do not depend on it.
    """

    id: str
    context: str
    question: str
    references: tuple[str, ...]
    max_new_tokens: int
    labels: dict[str, Label] = field(default_factory=dict)
    context_tokens: int | None = None
    padding: str = ""
    stop_texts: tuple[str, ...] = ()
    chat: bool = False
    answer_prefix: str = ""
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """The tokens before the answer.

    `truncated_tokens` were cut from the middle because the prompt was too long.
    `alignment_tokens` were cut from the front of a context so that it ends with a block.
    `question_tokens_prefilled` lie in whole blocks and are prefilled with the context.
    `question_start` is the index of the first question token.
    """

    tokens: list[int]
    truncated_tokens: int
    question_tokens_prefilled: int
    question_start: int
    alignment_tokens: int = 0


@dataclass(frozen=True)
class Score:
    """`value` is from 0 to 1; `exact` says whether the prediction is right as a whole."""

    value: float
    exact: bool


class Task(ABC):
    """A source of examples with stable ids.

    `question` says where the question stands: see tasks.prompt, or `text`: one text, see tasks.text_prompt. `metric`
    names what `Score.value` is. `source` says where fixed examples come from, and is empty for generated ones.
    """

    name: ClassVar[str]
    question: str
    metric: str = "share of the answer"
    source: str = ""

    @property
    @abstractmethod
    def content_hash(self) -> str:
        """Hex digest of everything that determines the examples of a seed, but for the tokenizer.

        Raises TaskError when the task's data cannot be read.
        """

    def check_block_size(self, block_size: int) -> None:  # noqa: B027 - most tasks can be cut to any
        """Raise TaskError when prompts of this task cannot be cut into blocks of `block_size` tokens."""

    def context_lengths(self) -> tuple[int, ...]:
        """How many tokens the contexts have, where the task says so beforehand."""
        return ()

    @abstractmethod
    def examples(self, tokenizer: Tokenizer, count: int | None, seed: int, block_size: int) -> list[Example]:
        """The first `count` examples of a seed; fewer when there are no more.

        None: all of a fixed set, or the task's own number. Example i does not depend on `count`. Raises TaskError for
        data that does not fit.
        """

    @abstractmethod
    def prompt(self, example: Example, tokenizer: Tokenizer, block_size: int, max_positions: int) -> Prompt:
        """The tokens of an example for a model with `block_size` and `max_positions`, which hold prompt and answer."""

    @abstractmethod
    def score(self, example: Example, prediction: str) -> Score:
        """Score the text of a prediction, without stop and special tokens."""
