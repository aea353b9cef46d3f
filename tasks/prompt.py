"""From an example to the tokens of a prompt: where the context ends and where the question stands.

`block`   the context fills whole blocks and is prefilled; the question opens the first generated block and
          the answer follows it there. No question token sees the context before generation starts.
`prefix`  the question ends the prefilled prefix, right-aligned in blocks of its own with filler before it;
          the answer opens a block of masks. The question's own K/V may then already hold the answer, so that
          a method which keeps only the last tokens scores well: the place of the question is part of a result.
"""

from __future__ import annotations

from tasks.errors import TaskError, unknown_name
from tasks.task import Example, Prompt, Tokenizer

PLACEMENTS = ("block", "prefix")


def assemble(
    example: Example,
    tokenizer: Tokenizer,
    block_size: int,
    placement: str = "block",
    max_positions: int | None = None,
) -> Prompt:
    """Build the prompt of an example for a model with `block_size` tokens a block.

    A context shorter than one block is kept whole. Raises TaskError when `placement` is unknown, when the
    context has fewer tokens than the example wants (it was made with another tokenizer), or when
    `max_positions`, the limit of prompt and answer in whole blocks, leaves nothing of the context.
    """
    if placement not in PLACEMENTS:
        raise unknown_name("question", placement, PLACEMENTS)
    context = _wanted(example, tokenizer.encode(example.context))
    question = tokenizer.encode(example.question)
    filled = tokenizer.encode(example.padding) if placement == "prefix" else []
    gap = -len(question) % block_size
    tail = filled[len(filled) - min(gap, len(filled)) :] + question

    # In `prefix` the question must end a block: where there is too little filler the context gives way.
    surplus = (len(context) + (len(tail) if placement == "prefix" else 0)) % block_size
    aligned = surplus if len(context) >= block_size else 0
    context = context[aligned:]

    truncated = 0
    needed = -(-(len(context) + len(tail) + example.max_new_tokens) // block_size) * block_size
    if max_positions is not None and needed > max_positions:
        truncated = -(-(needed - max_positions) // block_size) * block_size
        kept = len(context) - truncated
        if kept <= 0:
            least = needed - len(context) + min(block_size, len(context))
            raise TaskError(f"max_positions={max_positions}: too few for {example.id}; allowed are {least} or more")
        # The middle goes: instructions stand at the front, and the latest text at the end.
        context = context[: kept // 2] + context[kept // 2 + truncated :]

    tokens = context + tail
    start = len(tokens) - len(question)
    prefilled = len(tokens) // block_size * block_size
    return Prompt(tokens, truncated, max(0, prefilled - start), start, aligned)


def _wanted(example: Example, context: list[int]) -> list[int]:
    """The last `context_tokens` tokens of the context, or all of it when the example does not say."""
    if example.context_tokens is None:
        return context
    if len(context) < example.context_tokens:
        raise TaskError(
            f"{example.id}: the context has {len(context)} tokens, {example.context_tokens} are wanted; "
            "assemble a prompt with the tokenizer that the examples were made with"
        )
    return context[len(context) - example.context_tokens :]
