"""The frame of the tasks whose prompts are one text: published benchmarks and what is written in their manner."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.errors import refused
from tasks.task import Example, Prompt, Task, Tokenizer
from tasks.text_prompt import assemble_text


@dataclass(kw_only=True)
class TextTask(Task):
    """A task that shows its prompt as one text.

    max_prompt_tokens: longer texts are cut in the middle to that many tokens, the chat template apart. None: only where
        the model's positions do.
    """

    question = "text"

    max_prompt_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.max_prompt_tokens is not None and self.max_prompt_tokens < 2:
            raise refused("max_prompt_tokens", self.max_prompt_tokens, "allowed are whole numbers above 1, or null")

    def prompt(self, example: Example, tokenizer: Tokenizer, block_size: int, max_positions: int) -> Prompt:
        """See Task."""
        return assemble_text(example, tokenizer, block_size, max_positions, self.max_prompt_tokens)
