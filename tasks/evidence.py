"""Where the evidence of an example stands among the tokens of its prompt."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from tasks.task import Example, Prompt, Tokenizer


def evidence_positions(example: Example, prompt: Prompt, tokenizer: Tokenizer) -> list[int]:
    """The indices into `prompt.tokens` of the tokens that spell the values of the example's evidence, rising.

    A token that spells a part of a value and something else counts. Empty where the example tells no evidence, and
    where any of its passages does not stand in the prompt: it was cut, or its text changed.
    """
    tokens = prompt.tokens
    text = tokenizer.decode(tokens) if example.evidence else ""
    found: set[int] = set()
    for evidence in example.evidence:
        at = text.find(evidence.passage)
        if at < 0:
            return []
        start = at + evidence.passage.rindex(evidence.value)
        found.update(_tokens_of(text[:start], text[: start + len(evidence.value)], tokens, tokenizer))
    return sorted(found)


def _tokens_of(before: str, through: str, tokens: Sequence[int], tokenizer: Tokenizer) -> range:
    """The tokens that spell what `through` has more than `before`, which are both beginnings of the text of all.

    Where a character takes several tokens, the first of them have some other text for it.
    """

    def first(reached: Callable[[str], bool]) -> int:
        return bisect_left(range(len(tokens)), True, key=lambda i: reached(tokenizer.decode(tokens[: i + 1])))

    return range(first(lambda told: len(told) > len(before)), first(lambda told: told.startswith(through)) + 1)
