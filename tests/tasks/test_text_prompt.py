"""Prompts of one text: what is cut, what fits, where the question starts."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import TaskError
from tasks.key_needles import KeyNeedles
from tasks.longbench.benchmark import LongBench
from tasks.longbench.multiple_choice import LongBenchV2
from tasks.ruler.needles import RulerNeedles
from tasks.task import Example, Prompt, Tokenizer
from tasks.text_prompt import assemble_text
from tasks.text_task import TextTask

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


class Composed(Characters):
    """One token a character in composed form (NFC), as Qwen's tokenizer has it."""

    def encode(self, text: str) -> list[int]:
        return super().encode(unicodedata.normalize("NFC", text))


class Shouting(Characters):
    """A chat template that changes the user's text."""

    def chat(self, text: str) -> str:
        return super().chat(text.upper())


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


def test_a_limit_above_the_room_cuts_to_the_room() -> None:
    """In one step: to 500 first, halves of 250 bytes end within a character, and what they grow by would be lost."""
    made = replace(example(0), context="爱" * 400)
    ids = Bytes().encode(made.context + made.question)
    prompt = assemble_text(made, Bytes(), BLOCK, 448, 500)
    assert prompt.tokens == ids[:192] + ids[-192:]
    assert prompt.truncated_tokens == len(ids) - 384


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


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("limit", [None, 120])
def test_the_question_starts_where_decoding_changed_it(chat: bool, limit: int | None) -> None:
    question = unicodedata.normalize("NFD", " Où est-il allé, où ?\n")
    made = example(300, question, chat=chat, prefix=" Il est")
    prompt = assemble_text(made, Composed(), BLOCK, 512, limit)
    assert bool(prompt.truncated_tokens) == (limit is not None)
    assert spelled(prompt, Composed())[prompt.question_start :].startswith("Où est-il allé, où ?")


def test_a_cut_through_the_first_character_leaves_the_rest_of_the_question() -> None:
    made = replace(example(0, "爱" * 10), context="x" * 300)
    prompt = assemble_text(made, Bytes(), BLOCK, 512, 58)  # 29 bytes of the question's 30
    assert 29 <= prompt.question_start <= 29 + len("\ufffd\ufffd".encode())


@pytest.mark.parametrize("positions", [192, 512])
def test_a_template_that_changes_the_question_leaves_its_size(positions: int) -> None:
    """The template as a whole counts as what stands behind: where its ends lie is unknown."""
    made = example(300, chat=True, prefix=" It is")
    prompt = assemble_text(made, Shouting(), BLOCK, positions)
    ending = len("Who is it?" + OPEN + CLOSE + " It is")
    assert len(prompt.tokens) - prompt.question_start == ending


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


@pytest.mark.parametrize("kind", [LongBench, LongBenchV2, KeyNeedles, RulerNeedles])
def test_the_limit_changes_the_prompts_and_not_the_examples(kind: type[TextTask], tmp_path: Path) -> None:
    fields: dict[str, Any] = {"dataset": "hotpotqa", "data": "sample"} if kind is LongBench else {}
    if kind is LongBenchV2:
        row = {name: "x" for name in ("_id", "context", "question", "difficulty", "length", "domain")}
        row |= {f"choice_{letter}": letter for letter in "ABCD"} | {"answer": "A"}
        (tmp_path / "data.json").write_text(json.dumps([row | {"context": "Some text. " * 100}]))
        fields = {"data": str(tmp_path)}
    whole, cut = kind(**fields), kind(**fields, max_prompt_tokens=100)
    assert whole.content_hash == cut.content_hash
    made = whole.examples(Characters(), 1, 0, BLOCK)
    assert made == cut.examples(Characters(), 1, 0, BLOCK)
    prompts = [task.prompt(made[0], Characters(), BLOCK, 65_536) for task in (whole, cut)]
    assert prompts[0].truncated_tokens == 0 < prompts[1].truncated_tokens
