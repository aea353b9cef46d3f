"""Plain requests: their prompts, and what counts as repetition."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.chat import PROMPTS, Chat, prompts
from tasks.errors import TaskError
from tasks.task import Tokenizer

LESSONS = Path(__file__).parents[2] / "tasks" / "lessons"
TRAINING = Path(__file__).parents[2] / "mage" / "training"


def test_sixty_different_requests_of_one_line() -> None:
    found = prompts()
    assert len(found) == len({text.casefold() for text in found}) == 60
    assert all(text == text.strip() and len(text.split()) >= 4 for text in found)


def test_no_request_stands_in_what_is_trained_on() -> None:
    sources = [path for folder in (LESSONS, TRAINING) for path in folder.rglob("*") if path.is_file()]
    shipped = [path for path in PROMPTS.parents[1].rglob("*.txt") if path != PROMPTS]
    taught = " ".join(
        " ".join(path.read_text(encoding="utf-8", errors="replace").casefold().split()) for path in [*sources, *shipped]
    )
    assert len(taught) > 10**6
    assert [text for text in prompts() if text.casefold().rstrip(".?") in taught] == []


def test_examples_are_a_prefix_of_the_set_whatever_the_seed(qwen_tokenizer: Tokenizer) -> None:
    task = Chat(max_new_tokens=7)
    few, all_of_them = (task.examples(qwen_tokenizer, count, seed, 32) for count, seed in ((3, 1), (None, 0)))
    assert few == all_of_them[:3] and len(all_of_them) == 60
    assert len({example.id for example in all_of_them}) == 60
    assert all(example.chat and example.max_new_tokens == 7 for example in all_of_them)


def test_the_prompt_is_the_request(byte_tokenizer: Tokenizer) -> None:
    (example,) = Chat().examples(byte_tokenizer, 1, 0, 32)
    whole = Chat(max_prompt_tokens=None)
    plain = example.__class__(**{**vars(example), "chat": False})
    assert byte_tokenizer.decode(whole.prompt(plain, byte_tokenizer, 32, 512).tokens) == prompts()[0]


@pytest.mark.parametrize(
    ("answer", "value", "exact"),
    [
        ("", 0.0, False),
        (" \n", 0.0, False),
        ("Yes.", 1.0, True),
        ("one two three four five", 1.0, True),
        ("a b c d a b c d", 4 / 5, False),
        ("no no no no no no", 1 / 3, False),
        ("The cat sat down. the CAT sat down.", 4 / 5, False),
    ],
)
def test_repetition_lowers_the_score(answer: str, value: float, exact: bool, byte_tokenizer: Tokenizer) -> None:
    task = Chat()
    score = task.score(task.examples(byte_tokenizer, 1, 0, 32)[0], answer)
    assert (score.value, score.exact) == (pytest.approx(value), exact)


def test_the_limit_is_part_of_the_content() -> None:
    assert Chat(max_new_tokens=64).content_hash != Chat().content_hash == Chat(max_prompt_tokens=99).content_hash
    with pytest.raises(TaskError, match="max_new_tokens=0"):
        Chat(max_new_tokens=0)
