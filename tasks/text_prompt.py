"""Prompts that are one text, as the benchmarks publish them: cut in the middle where too long, then put into the chat
template.

The question stands where the text has it. Whole blocks of the prompt are prefilled; what is left over opens the first
generated block.
"""

from __future__ import annotations

from tasks.errors import TaskError
from tasks.task import Example, Prompt, Tokenizer


def assemble_text(
    example: Example,
    tokenizer: Tokenizer,
    block_size: int,
    max_positions: int,
    max_prompt_tokens: int | None = None,
) -> Prompt:
    """Build the prompt of an example.

    A text of more tokens than there is room for keeps its first and its last half of that number, decoded and joined
    (LongBench, pred.py); this happens before the chat template. `max_prompt_tokens` lowers the room further. Raises
    TaskError when no room is left.
    """
    text = example.context + example.question
    frame = len(tokenizer.encode(_framed(example, tokenizer, "")))
    answer = -(-example.max_new_tokens // block_size) * block_size
    # The prompt's tail shares a block with the answer, so a prompt and an answer in whole blocks always fit.
    room = max_positions // block_size * block_size - answer - frame
    if max_prompt_tokens is not None:
        room = min(room, max_prompt_tokens)
    if room < 2:
        raise TaskError(
            f"{example.id}: {max_positions} positions leave no room for a prompt beside {example.max_new_tokens} new "
            f"tokens and the {frame} tokens of the chat template"
        )
    ids = tokenizer.encode(text)
    kept = min(room, len(ids))
    while True:
        cut = text if kept == len(ids) else _ends(ids, kept, tokenizer)
        framed = _framed(example, tokenizer, cut)
        tokens = tokenizer.encode(framed)
        surplus = len(tokens) - frame - room  # text that was cut apart may take more tokens than before
        if surplus <= 0 or kept < 2:
            break
        kept -= surplus
    asked = framed.rfind(example.question.strip())  # a template may trim the user's text
    start = len(tokens) - len(tokenizer.encode(framed[asked:])) if asked >= 0 else 0
    prefilled = len(tokens) // block_size * block_size
    return Prompt(tokens, len(ids) - kept, max(0, prefilled - start), max(0, start))


def _ends(ids: list[int], kept: int, tokenizer: Tokenizer) -> str:
    """The first and the last half of `kept` tokens, as text."""
    half = kept // 2
    return tokenizer.decode(ids[:half]) + tokenizer.decode(ids[len(ids) - half :])


def _framed(example: Example, tokenizer: Tokenizer, text: str) -> str:
    return (tokenizer.chat(text) if example.chat else text) + example.answer_prefix
