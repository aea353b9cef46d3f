"""Interviews of a model: what is asked does not depend on when, and a file that was cut off goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import pre_tokenizers

from mage.errors import UserError
from mage.models.bpe import Special, byte_level_bpe
from mage.models.chat import CHATML, ChatTemplate
from mage.models.checkpoint import LanguageModel
from mage.models.diffusion import DiffusionSpec
from mage.models.tokenizer import Tokenizer
from runners.interviewing import interview_model
from tasks.lessons.interviews import KINDS, Interviews, degenerate
from tasks.lessons.mix import LessonMix
from tests.mage.naive import tiny_body

STOP = 1


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()), 2)}
    special = [Special(0, "<|mask|>"), Special(STOP, "<|im_end|>")]
    tokenizer = Tokenizer(byte_level_bpe(letters, [], [], special), "test", ChatTemplate(CHATML, {}, {}, "test"))
    spec = DiffusionSpec(block_size=1, mask_id=0, stop_ids=(STOP,), prefix_attention="causal", anchored=True)
    return LanguageModel(tiny_body("llama", vocab_size=258, max_position_embeddings=8192), spec, tokenizer)


@pytest.fixture(scope="module")
def interviews(model: LanguageModel) -> Interviews:
    return Interviews(model.tokenizer, STOP)


def stopping_after(count: int) -> Callable[[], bool]:
    left = iter([True] * count + [False])
    return lambda: next(left)


def test_interviews_are_of_all_kinds_and_do_not_depend_on_their_order(interviews: Interviews) -> None:
    made = [interviews.interview(index, 3) for index in range(12)]
    assert {interview.kind for interview in made} == set(KINDS)
    assert made[7] == interviews.interview(7, 3)
    assert all(len(interview.prompts) == 3 for interview in made if interview.kind != "chat")


def test_a_file_that_was_cut_off_goes_on_as_if_it_had_not_been(
    model: LanguageModel, interviews: Interviews, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    assert interview_model(model, interviews, whole, 4, questions=2, max_new=6) > 0
    interview_model(model, interviews, cut, 4, questions=2, max_new=6, go_on=stopping_after(2))
    cut.write_bytes(cut.read_bytes() + b'{"interview": 2, "cont')
    interview_model(model, interviews, cut, 4, questions=2, max_new=6)
    assert cut.read_text() == whole.read_text()
    rows = [json.loads(line) for line in whole.read_text().splitlines()]
    assert {row["interview"] for row in rows} == {0, 1, 2, 3}
    assert all((row["answer"][-1] == STOP) == row["finished"] for row in rows)
    LessonMix(sampled=str(whole)).lessons(model.tokenizer, STOP)


@pytest.mark.parametrize("damaged", [b'{"interview": 0, "ki', b"[]", b"\xff", b"{}"])
@pytest.mark.parametrize("count", [1, 4])  # all done already, and more to ask
def test_a_damaged_line_is_named(
    model: LanguageModel, interviews: Interviews, tmp_path: Path, damaged: bytes, count: int
) -> None:
    file = tmp_path / "samples.jsonl"
    content = b'{"interview": 0}\n' + damaged + b'\n{"interview": 1}\n'
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"^.*samples\.jsonl: line 2 is damaged\. Delete the file .*\.$"):
        interview_model(model, interviews, file, count, questions=1, max_new=2)
    assert file.read_bytes() == content


def test_answers_that_run_in_circles_are_told_from_others() -> None:
    assert degenerate([])
    assert degenerate([7, 8, 9] * 12)
    assert degenerate([3] * 20)
    assert not degenerate([5, STOP])
    assert not degenerate(list(range(40)))
    assert not degenerate([1, 2, 3, 4, 5, *range(10, 30), 1, 2, 3, 4, 5])
