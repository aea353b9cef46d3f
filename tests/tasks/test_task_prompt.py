"""Where the context ends and where the question stands."""

from __future__ import annotations

import pytest

from tasks.errors import TaskError
from tasks.niah import NeedleInHaystack
from tasks.prompt import assemble
from tasks.task import Example, Tokenizer

BLOCK = 32


def example(
    context: int, question: int, padding: int = 0, max_new_tokens: int = 10, context_tokens: int | None = None
) -> Example:
    """An example for the byte tokenizer: digits count the context, `q` is the question, `p` padding."""
    numbers = "".join(f"{i:04d}" for i in range(context // 4 + 1))[:context]
    return Example("x-0", numbers, "q" * question, ("a",), max_new_tokens, {}, context_tokens, "p" * padding)


@pytest.mark.parametrize("question", [1, 16, 31, 32, 33, 70])
@pytest.mark.parametrize("context", [32, 100, 128])
def test_block(context: int, question: int, byte_tokenizer: Tokenizer) -> None:
    made = example(context, question)
    prompt = assemble(made, byte_tokenizer, BLOCK, "block")
    kept = context // BLOCK * BLOCK
    assert byte_tokenizer.decode(prompt.tokens) == made.context[context - kept :] + made.question
    assert prompt.question_start == kept
    assert prompt.alignment_tokens == context - kept
    assert prompt.question_tokens_prefilled == question // BLOCK * BLOCK
    assert prompt.truncated_tokens == 0


@pytest.mark.parametrize("padding", [0, 5, 64])
@pytest.mark.parametrize("question", [1, 31, 32, 33])
@pytest.mark.parametrize("context", [64, 100])
def test_prefix(context: int, question: int, padding: int, byte_tokenizer: Tokenizer) -> None:
    made = example(context, question, padding)
    prompt = assemble(made, byte_tokenizer, BLOCK, "prefix")
    text = byte_tokenizer.decode(prompt.tokens)
    assert len(text) % BLOCK == 0
    assert text.endswith(made.question)
    assert prompt.question_start == len(text) - question
    assert prompt.question_tokens_prefilled == question
    filler = min(padding, -question % BLOCK)
    assert text[: prompt.question_start] == made.context[prompt.alignment_tokens :] + "p" * filler
    assert prompt.alignment_tokens < BLOCK


def test_prefix_of_a_generated_task_keeps_the_context(word_tokenizer: Tokenizer) -> None:
    """The question has blocks of its own: the context is the same as with the question in the first block."""
    for made in NeedleInHaystack().examples(word_tokenizer, 4, 0, BLOCK):
        block = assemble(made, word_tokenizer, BLOCK, "block")
        prefix = assemble(made, word_tokenizer, BLOCK, "prefix")
        assert prefix.tokens[:1024] == block.tokens[:1024]
        assert len(prefix.tokens) == 1024 + BLOCK
        assert block.question_tokens_prefilled == 0


def test_context_shorter_than_a_block_is_kept(byte_tokenizer: Tokenizer) -> None:
    prompt = assemble(example(20, 5), byte_tokenizer, BLOCK)
    assert (len(prompt.tokens), prompt.question_start, prompt.alignment_tokens) == (25, 20, 0)


def test_no_context(byte_tokenizer: Tokenizer) -> None:
    prompt = assemble(example(0, 40), byte_tokenizer, BLOCK, max_positions=64)
    assert (len(prompt.tokens), prompt.question_start, prompt.question_tokens_prefilled) == (40, 0, 32)


@pytest.mark.parametrize("padding", [0, 64])
@pytest.mark.parametrize("placement", ["block", "prefix"])
@pytest.mark.parametrize("limit", [128, 150, 200, 992, 1023])
def test_too_long_loses_its_middle(placement: str, limit: int, padding: int, byte_tokenizer: Tokenizer) -> None:
    made = example(1000, 20, padding=padding)
    prompt = assemble(made, byte_tokenizer, BLOCK, placement, limit)
    blocks = -(-(len(prompt.tokens) + made.max_new_tokens) // BLOCK)
    assert limit - BLOCK < blocks * BLOCK <= limit
    text = byte_tokenizer.decode(prompt.tokens)
    kept = len(text[: prompt.question_start].rstrip("p"))
    assert 0 < kept == 1000 - prompt.truncated_tokens - prompt.alignment_tokens
    context, half = made.context[prompt.alignment_tokens :], kept // 2
    assert text[:half] == context[:half]
    assert text[half:kept] == context[half + prompt.truncated_tokens :]


def test_a_prompt_that_just_fits_is_not_cut(byte_tokenizer: Tokenizer) -> None:
    made = example(1000, 20)
    assert assemble(made, byte_tokenizer, BLOCK, max_positions=1024).truncated_tokens == 0
    assert assemble(made, byte_tokenizer, BLOCK, max_positions=1023).truncated_tokens == BLOCK


@pytest.mark.parametrize(("context", "least"), [(100, 64), (0, 32), (20, 64)])
def test_no_room_for_the_context_is_refused(context: int, least: int, byte_tokenizer: Tokenizer) -> None:
    made = example(context, 20)
    assemble(made, byte_tokenizer, BLOCK, max_positions=least)
    with pytest.raises(TaskError, match=rf"max_positions={least - 1}: .* allowed are {least} or more"):
        assemble(made, byte_tokenizer, BLOCK, max_positions=least - 1)


def test_context_of_another_tokenizer_is_refused(byte_tokenizer: Tokenizer) -> None:
    with pytest.raises(TaskError, match="has 40 tokens, 64 are wanted"):
        assemble(example(40, 5, context_tokens=64), byte_tokenizer, BLOCK)


def test_wanted_tokens_are_the_last(byte_tokenizer: Tokenizer) -> None:
    made = example(100, 5, context_tokens=64)
    prompt = assemble(made, byte_tokenizer, BLOCK)
    assert byte_tokenizer.decode(prompt.tokens) == made.context[36:] + "qqqqq"
    assert prompt.alignment_tokens == 0


def test_unknown_placement_is_refused(byte_tokenizer: Tokenizer) -> None:
    with pytest.raises(TaskError, match="did you mean 'prefix'"):
        assemble(example(64, 5), byte_tokenizer, BLOCK, "prefx")
