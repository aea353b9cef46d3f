"""Prompts of one text: what is cut, what fits, where the question starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import TaskError
from tasks.longbench.benchmark import LongBench
from tasks.task import Example, Prompt, Tokenizer
from tasks.text_prompt import assemble_text

BLOCK = 32
OPEN, CLOSE = "<user>", "</user><assistant>"


class Characters:
    """One token a character; a chat template that trims the user's text, as published templates do."""

    def encode(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(i) for i in ids)

    def chat(self, text: str) -> str:
        return OPEN + text.strip() + CLOSE


class Bytes(Characters):
    """One token a byte: a cut through a character leaves three bytes that say so."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode(errors="replace")


@dataclass
class Nasty:
    """Nothing comes back as it was: `more` characters a token, `extra` of a text, `stays` even of none."""

    more: int
    extra: int
    stays: int
    twice: bool

    def encode(self, text: str) -> list[int]:
        return [*range(len(text)), *([0] * self.extra)]

    def decode(self, ids: Sequence[int]) -> str:
        return "x" * (self.more * len(ids) + self.stays)

    def chat(self, text: str) -> str:
        return OPEN + text + (text if self.twice else "") + CLOSE


def example(context: int, question: str = " Who is it?\n", *, chat: bool = False, prefix: str = "") -> Example:
    text = "".join(f"{i:05d}" for i in range(context // 5 + 1))[:context]
    return Example("x-0", text, question, ("a",), 40, chat=chat, answer_prefix=prefix)


def spelled(prompt: Prompt, tokenizer: Tokenizer) -> str:
    return tokenizer.decode(prompt.tokens)


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("prefix", ["", " It is"])
def test_a_text_that_fits_is_untouched(chat: bool, prefix: str) -> None:
    made = example(200, chat=chat, prefix=prefix)
    prompt = assemble_text(made, Characters(), BLOCK, 512)
    text = made.context + made.question
    assert spelled(prompt, Characters()) == (OPEN + text.strip() + CLOSE if chat else text) + prefix
    assert prompt.truncated_tokens == 0
    assert spelled(prompt, Characters())[prompt.question_start :].startswith("Who is it?")
    prefilled = len(prompt.tokens) // BLOCK * BLOCK
    assert prompt.question_tokens_prefilled == max(0, prefilled - prompt.question_start)


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("limit", [2, 3, 40, 101, 211])
def test_the_limit_keeps_the_published_halves(limit: int, chat: bool) -> None:
    """pred.py: half = int(max_length / 2), decode(first half) + decode(last half), then the template."""
    made = example(200, chat=chat)
    ids = Characters().encode(made.context + made.question)
    half = int(limit / 2)
    cut = Characters().decode(ids[:half]) + Characters().decode(ids[-half:])
    prompt = assemble_text(made, Characters(), BLOCK, 512, limit)
    assert spelled(prompt, Characters()) == (Characters().chat(cut) if chat else cut)
    assert prompt.truncated_tokens == len(ids) - 2 * half


def test_a_text_of_just_the_limit_is_not_cut() -> None:
    made = example(200)
    assert assemble_text(made, Characters(), BLOCK, 512, 212).truncated_tokens == 0


def test_a_text_that_grows_by_the_cut_may_pass_the_limit_but_not_the_positions() -> None:
    made = replace(example(0), context="爱" * 400)
    ids = Bytes().encode(made.context + made.question)
    prompt = assemble_text(made, Bytes(), BLOCK, 4096, 500)
    expected = Bytes().decode(ids[:250]) + Bytes().decode(ids[-250:])
    assert spelled(prompt, Bytes()) == expected
    assert len(prompt.tokens) > 500
    for positions in range(128, 512, 17):
        assert len(assemble_text(made, Bytes(), BLOCK, positions).tokens) <= positions // BLOCK * BLOCK - 64


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("positions", [128, 200, 1000, 1023])
def test_prompt_and_answer_fill_the_positions_in_whole_blocks(positions: int, chat: bool) -> None:
    made = example(5000, chat=chat)
    prompt = assemble_text(made, Characters(), BLOCK, positions)
    room = positions // BLOCK * BLOCK - 64
    assert room - 1 <= len(prompt.tokens) <= room
    text = spelled(prompt, Characters())
    assert text[prompt.question_start :].startswith("Who is it?")
    assert text.removeprefix(OPEN).startswith("00000")


def test_the_question_starts_where_a_cut_left_it() -> None:
    made = example(300, "who" * 100 + "?")
    prompt = assemble_text(made, Characters(), BLOCK, 512, 60)
    assert prompt.question_start == 30
    assert spelled(prompt, Characters())[30:] == made.question[-30:]


def test_an_answer_prefix_that_repeats_the_question_is_not_the_question() -> None:
    made = example(100, "number of Ann", chat=True, prefix="number of Ann is")
    prompt = assemble_text(made, Characters(), BLOCK, 512)
    assert prompt.question_start == len(OPEN) + 100


def test_no_room_is_refused() -> None:
    with pytest.raises(TaskError, match="x-0: 95 positions leave no room for a prompt beside 40 new tokens and the 24"):
        assemble_text(example(100, chat=True), Characters(), BLOCK, 95)


@settings(deadline=None)
@given(
    tokenizer=st.builds(Nasty, st.integers(0, 4), st.integers(0, 3), st.integers(0, 60), st.booleans()),
    context=st.integers(0, 700),
    chat=st.booleans(),
    block=st.sampled_from([1, 4, 32]),
    positions=st.integers(40, 400),
    limit=st.none() | st.integers(2, 300),
)
def test_odd_tokenizers_end_in_a_prompt_that_fits_or_are_refused(
    tokenizer: Nasty, context: int, chat: bool, block: int, positions: int, limit: int | None
) -> None:
    made = example(context, chat=chat)
    try:
        prompt = assemble_text(made, tokenizer, block, positions, limit)
    except TaskError:
        return
    answer = -(-made.max_new_tokens // block) * block
    assert len(prompt.tokens) <= positions // block * block - answer
    assert 0 <= prompt.question_start <= len(prompt.tokens)
    assert 0 <= prompt.truncated_tokens <= len(tokenizer.encode(made.context + made.question))


def test_a_prompt_that_cannot_be_made_to_fit_is_refused() -> None:
    with pytest.raises(TaskError, match="leaves nothing of the prompt"):
        assemble_text(example(300), Nasty(0, 0, 500, False), BLOCK, 256)


@pytest.mark.parametrize("limit", [1, 0, -5])
def test_a_limit_without_two_halves_is_refused(limit: int) -> None:
    with pytest.raises(TaskError, match=f"task.max_prompt_tokens={limit}: allowed are whole numbers above 1"):
        LongBench(dataset="hotpotqa", max_prompt_tokens=limit)
