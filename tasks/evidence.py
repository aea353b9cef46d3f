"""What of a context an answer repeats, and where it stands among the tokens of a prompt."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.task import Example, Prompt, Tokenizer


@dataclass(frozen=True)
class Evidence:
    """`value` is what an answer repeats of `passage`, where it stands last; the passage stands in the context once."""

    passage: str
    value: str


def evidence_positions(example: Example, prompt: Prompt, tokenizer: Tokenizer) -> list[int]:
    """The indices into `prompt.tokens` of the tokens that spell the values of the example's evidence, rising.

    A token that spells a part of a value and something else counts. Empty where the example tells no evidence; what was
    cut from the prompt has no tokens.
    """
    if not example.evidence:
        return []
    tokens = prompt.tokens
    text = tokenizer.decode(tokens)
    found: set[int] = set()
    for evidence in example.evidence:
        at = text.find(evidence.passage)
        if at >= 0:
            start = at + evidence.passage.rindex(evidence.value)
            first, last = (_token_at(tokens, i, tokenizer) for i in (start, start + len(evidence.value) - 1))
            found.update(range(first, last + 1))
    return sorted(found)


def _token_at(tokens: Sequence[int], index: int, tokenizer: Tokenizer) -> int:
    """The token that spells character `index` of the text of all tokens."""
    return bisect_left(range(len(tokens)), True, key=lambda i: len(tokenizer.decode(tokens[: i + 1])) > index)
