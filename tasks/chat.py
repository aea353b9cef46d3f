"""Plain requests without a right answer: how a model writes, not what it knows."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tasks.fields import require_int
from tasks.task import Example, Score, Tokenizer
from tasks.text_task import TextTask

PROMPTS = Path(__file__).parent / "data" / "chat" / "prompts.txt"
SPAN = 4
"""Words of a sequence that a text may not repeat."""


@dataclass(kw_only=True)
class Chat(TextTask):
    """Sixty requests of one sentence: questions, instructions, stories, lists, explanations. A fixed set, in its order.

    There are no references. Value: the share of the answer's four-word sequences that it says for the first time, which
    is 1 - seq-rep-4 (Welleck et al., arXiv 1908.04319, over words); 1 for an answer too short to have two, 0 for one
    without a word. Exact: no such sequence stands there twice. How likely a model finds the answers is asked with
    runner.likelihood=true.
    """

    name: ClassVar[str] = "chat"
    metric = "share of four-word sequences not said before"

    max_new_tokens: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int("max_new_tokens", self.max_new_tokens, 1, 1024)

    @property
    def content_hash(self) -> str:
        """See Task."""
        return hashlib.sha256(PROMPTS.read_bytes() + str(self.max_new_tokens).encode()).hexdigest()

    def examples(self, tokenizer: Tokenizer, count: int | None, seed: int, block_size: int) -> list[Example]:
        """See Task. The seed changes nothing."""
        return [
            Example(f"chat-{number:02d}", "", text, (), self.max_new_tokens, chat=True)
            for number, text in enumerate(prompts()[:count], start=1)
        ]

    def score(self, example: Example, prediction: str) -> Score:
        """See Task."""
        words = prediction.casefold().split()
        if not words:
            return Score(0.0, False)
        spans = Counter(tuple(words[start : start + SPAN]) for start in range(len(words) - SPAN + 1))
        value = len(spans) / spans.total() if spans else 1.0
        return Score(value, value == 1.0)


def prompts() -> list[str]:
    """The requests, in the order of the file."""
    return PROMPTS.read_text(encoding="utf-8").splitlines()
