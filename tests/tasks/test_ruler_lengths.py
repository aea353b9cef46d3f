"""RULER's prompts fill their length with any tokenizer and block size, or say what length would do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tasks.errors import TaskError
from tasks.ruler.frame import RulerTask
from tasks.task import Tokenizer
from tests.tasks.prose_tokenizers import Bytes, Words
from tests.tasks.ruler_tasks import (
    ALL,
    made,
    question_sets,  # noqa: F401 - a fixture
    task,
)

every_task = pytest.mark.parametrize("name", ALL)


def fills(asked: RulerTask, tokenizer: Tokenizer, length: int, block_size: int, share: float = 0.9) -> None:
    """All examples fill a model of `length` positions to a share, and lose nothing."""
    for example in asked.examples(tokenizer, 3, 0, block_size):
        prompt = asked.prompt(example, tokenizer, block_size, length)
        assert prompt.truncated_tokens == 0
        answer = -(-example.max_new_tokens // block_size) * block_size
        assert share * length <= len(prompt.tokens) + answer <= length
        assert 0 < len(prompt.tokens) - prompt.question_start < 0.6 * length
        assert example.labels["length"] == length


@every_task
@pytest.mark.parametrize("block_size", [1, 4, 32, 64])
def test_words_fill_the_length(name: str, block_size: int, data: dict[str, str]) -> None:
    fills(task(name, data, lengths=1024), Words(), 1024, block_size)


@every_task
def test_bytes_fill_the_length(name: str, data: dict[str, str]) -> None:
    fills(task(name, data, lengths=9000), Bytes(), 9000, 32)


@every_task
def test_byte_pairs_fill_the_length(name: str, data: dict[str, str], qwen_tokenizer: Tokenizer) -> None:
    fills(task(name, data, lengths=1500), qwen_tokenizer, 1500, 32)


@pytest.mark.parametrize("name", ["niah_single_1", "niah_single_2", "niah_multikey_3", "niah_multiquery", "fwe"])
def test_256_words_are_enough(name: str, data: dict[str, str]) -> None:
    fills(task(name, data, lengths=256), Words(), 256, 4)


def test_a_length_that_is_no_multiple_of_the_block_is_filled_too(data: dict[str, str]) -> None:
    fills(made("niah_single_2", lengths=1000), Words(), 1000, 64)


def test_a_corpus_that_is_too_short_is_repeated(tmp_path: Path) -> None:
    (tmp_path / "essay.txt").write_text("It was a day. It was a night! Who knows?\n\n" * 20)
    asked = made("niah_single_2", lengths=4096, haystack=str(tmp_path))
    fills(asked, Words(), 4096, 32)


@every_task
def test_a_length_that_is_too_short_says_what_would_do(name: str, data: dict[str, str]) -> None:
    with pytest.raises(
        TaskError, match=r"^task\.lengths=250: the shortest prompt and its answer take \d+ tokens$"
    ) as error:
        task(name, data, lengths=250).examples(Bytes(), 1, 0, 32)
    enough = (int(re.findall(r"take (\d+)", str(error.value))[0]) + 300) // 32 * 32  # drawn words are not all as long
    assert task(name, data, lengths=enough).examples(Bytes(), 1, 0, 32)


def test_a_length_beyond_the_word_lists_is_refused() -> None:
    with pytest.raises(TaskError, match=r"task\.lengths=100000: all there is to fill the prompt with takes \d+ tokens"):
        made("cwe", lengths=100_000).examples(Words(), 1, 0, 32)
