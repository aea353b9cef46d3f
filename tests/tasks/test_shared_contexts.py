"""Several questions about one context: what they share, how they are named, and that one question changes nothing."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tasks.errors import TaskError
from tasks.key_needles import KeyNeedles
from tasks.task import Example
from tests.tasks.prose_tokenizers import Bytes, Words
from tests.tasks.test_key_needles import solve

TOLD = ("id", "context", "question", "references", "max_new_tokens", "labels")


@pytest.mark.parametrize(
    ("fields", "content", "examples"),
    [
        ({}, "05ea549de4303ecd", "b99fe86588e681c6"),
        ({"needles": 8, "asked": 2, "values": "name"}, "745c4da2291c6808", "8381d1ffb3b92f2b"),
    ],
    ids=["defaults", "names"],
)
def test_one_question_a_context_stays_what_it_was(fields: dict[str, Any], content: str, examples: str) -> None:
    task = KeyNeedles(lengths=[600, 900], depths=[0.0, 0.5], questions=1, **fields)
    told = [[getattr(example, name) for name in TOLD] for example in task.examples(Words(), 6, 0, 4)]
    assert task.content_hash[:16] == content
    assert hashlib.sha256(repr(told).encode()).hexdigest()[:16] == examples


def made(count: int | None, seed: int = 0, **fields: Any) -> list[Example]:
    settings: dict[str, Any] = {"lengths": [700, 900], "depths": [0.2, 0.8], "needles": 8, "asked": 2, "questions": 4}
    return KeyNeedles(**settings | fields).examples(Words(), count, seed, 4)


def test_questions_of_a_context_ask_for_different_needles_of_one_text() -> None:
    examples = made(12)
    assert len({example.id for example in examples}) == 12
    for group in (examples[start : start + 4] for start in (0, 4, 8)):
        assert len({example.context for example in group}) == len({example.labels["context"] for example in group}) == 1
        assert len({example.question for example in group}) == 4
        assert len({value for example in group for value in example.references[0].split(", ")}) == 8
        for example in group:
            assert solve(example) == example.references[0]
    assert len({example.context for example in examples}) == 3


def test_the_first_question_alone_has_the_depth() -> None:
    examples = made(8)
    assert [example.labels.get("depth") for example in examples] == [0.2, None, None, None, 0.8, None, None, None]
    long = made(None, lengths=[4000], depths=[0.0, 1.0], asked=1)
    assert len(long) == 2 * 4, "without a count there is one context a cell"
    for example in (long[0], long[4]):
        before = example.context.split("\n\n", 1)[1].split(example.references[0])[0]
        assert abs(len(before.split()) / 3800 - float(example.labels["depth"])) < 0.05


def test_examples_do_not_depend_on_the_count_and_contexts_not_on_the_number_of_seeds() -> None:
    assert made(5) == made(12)[:5]
    contexts = {example.labels["context"] for example in made(12)}
    assert len(contexts) == 3 and not contexts & {example.labels["context"] for example in made(12, seed=1)}


def test_the_number_of_questions_makes_other_examples() -> None:
    assert len({KeyNeedles(questions=n).content_hash for n in (1, 2, 4)}) == 3


def test_the_prompts_of_a_context_begin_with_the_same_tokens() -> None:
    task = KeyNeedles(lengths=900, buffer=500, questions=3)
    prompts = [task.prompt(example, Bytes(), 1, 4096) for example in task.examples(Bytes(), 3, 0, 1)]
    (start,) = {prompt.question_start for prompt in prompts}
    assert len({tuple(prompt.tokens[:start]) for prompt in prompts}) == 1 and start > 400


@pytest.mark.parametrize("questions", [0, 3, 2.0, True])
def test_more_questions_than_needles_are_refused(questions: Any) -> None:
    line = r"task\.questions=.*: allowed are whole numbers from 1 to 2 \(each asks for 2 of 5 needles\)"
    with pytest.raises(TaskError, match=line):
        KeyNeedles(needles=5, asked=2, questions=questions)
