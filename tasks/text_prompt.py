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

    A text of more than `max_prompt_tokens`, or of more than there is room for, keeps its first and its last half of
    that number, decoded each and joined (LongBench, pred.py); this happens before the chat template. Cut apart, a text
    may take more tokens than before: it is cut further only where the positions want it. Raises TaskError when no room
    is left.
    """
    text = example.context + example.question
    frame = len(tokenizer.encode(_framed(example, tokenizer, "")))
    answer = -(-example.max_new_tokens // block_size) * block_size
    # The prompt's tail shares a block with the answer, so a prompt and an answer in whole blocks always fit.
    room = max_positions // block_size * block_size - answer - frame
    if room < 2:
        raise TaskError(
            f"{example.id}: {max_positions} positions leave no room for a prompt beside {example.max_new_tokens} new "
            f"tokens and the {frame} tokens of the chat template"
        )
    ids = tokenizer.encode(text)
    allowed = room if max_prompt_tokens is None else min(room, max_prompt_tokens)
    kept, last = len(ids), text
    if kept > allowed:
        kept = allowed // 2 * 2
        text, last = _cut(ids, kept, tokenizer)
    framed = _framed(example, tokenizer, text)
    tokens = tokenizer.encode(framed)
    while (taken := len(tokens) - frame) > room:
        kept = kept * room // taken // 2 * 2
        if not kept:
            raise TaskError(f"{example.id}: the tokenizer leaves nothing of the prompt in {room} tokens")
        text, last = _cut(ids, kept, tokenizer)
        framed = _framed(example, tokenizer, text)
        tokens = tokenizer.encode(framed)
    start = _question_start(example, tokenizer, framed, last, len(tokens))
    prefilled = len(tokens) // block_size * block_size
    return Prompt(tokens, len(ids) - kept, max(0, prefilled - start), start)


def _cut(ids: list[int], kept: int, tokenizer: Tokenizer) -> tuple[str, str]:
    """The first and the last half of `kept` tokens, an even number, as one text; and the last half alone."""
    last = tokenizer.decode(ids[len(ids) - kept // 2 :])
    return tokenizer.decode(ids[: kept // 2]) + last, last


def _question_start(example: Example, tokenizer: Tokenizer, framed: str, last: str, length: int) -> int:
    """The index of the first token of the question's first word, or of what the cut left of the question, which is then
    all of `last`.

    Where decoding or the template changed its text, it is counted from the end: as many tokens as the question and what
    the template puts behind it take.
    """
    # A template may trim the user's text. What opens the answer may repeat the question.
    end = len(framed) - len(example.answer_prefix)
    left, shown = min(example.question, last, key=len).strip(), last.strip()
    asked = framed.rfind(left, 0, end)
    if asked >= 0:
        ending = framed[asked:]
    elif (at := framed.rfind(shown, 0, end)) >= 0:
        ending = left + framed[at + len(shown) :]
    else:
        ending = left + _framed(example, tokenizer, "")
    return max(0, length - len(tokenizer.encode(ending)))


def _framed(example: Example, tokenizer: Tokenizer, text: str) -> str:
    return (tokenizer.chat(text) if example.chat else text) + example.answer_prefix
