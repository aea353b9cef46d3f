"""The frame of the tasks whose prompts are one text: published benchmarks and what is written in their manner."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from tasks.errors import refused
from tasks.task import Example, Prompt, Task, Tokenizer
from tasks.text_prompt import assemble_text


@dataclass(kw_only=True)
class TextTask(Task):
    """A task that shows its prompt as one text.

    max_prompt_tokens: longer texts are cut in the middle to that many tokens, the chat template apart. None: only where
        the model's positions do. It changes no example, and so is no part of any content hash.
    """

    question = "text"

    elsewhere: ClassVar[frozenset[str]] = frozenset()
    """Fields that name a place: the content hash takes what lies there, not its name."""

    max_prompt_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.max_prompt_tokens is not None and self.max_prompt_tokens < 2:
            raise refused("max_prompt_tokens", self.max_prompt_tokens, "allowed are whole numbers above 1, or null")

    def told(self) -> dict[str, Any]:
        """The fields that the content hash takes: all that decide what the examples say."""
        left_out = self.elsewhere | {"max_prompt_tokens"}
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in left_out}

    def prompt(self, example: Example, tokenizer: Tokenizer, block_size: int, max_positions: int) -> Prompt:
        """See Task."""
        return assemble_text(example, tokenizer, block_size, max_positions, self.max_prompt_tokens)
