"""Key-value needles: every question can be answered from its prompt, the splits share nothing, and scores."""

from __future__ import annotations

import re

import pytest

from tasks import needle_words
from tasks.key_needles import KeyNeedles
from tasks.needle_words import TEST, TRAIN, NeedleWords
from tasks.task import Example
from tests.tasks.prose_tokenizers import Words


def solve(example: Example) -> str:
    """The answer to a key-value question, read off the prompt as its text stands there."""
    kind, keys = re.findall(r"secret (number|name|word)s? of (.*)\?", example.question)[0]
    answers = []
    for key in re.split(", | and ", keys):
        told = re.findall(rf"[^.]*\b{key}\b[^.]*\.", example.context)
        told = [sentence for sentence in told if f"secret {kind}" in sentence]
        assert len(told) == 1, (key, told)
        word = r"\d{5}" if kind == "number" else r"\b[A-Za-z]+\b"
        words = {"number": None, "name": TEST.names + TRAIN.names, "word": TEST.words + TRAIN.words}[kind]
        found = [match for match in re.findall(word, told[0]) if words is None or match in words]
        assert len(found) == 1, found
        answers += found
    return ", ".join(answers)


@pytest.mark.parametrize("split", ["test", "train"])
@pytest.mark.parametrize("values", ["number", "name", "word"])
@pytest.mark.parametrize(("needles", "asked"), [(1, 1), (6, 1), (12, 3)])
def test_a_reader_of_the_prompt_scores_full_marks(values: str, needles: int, asked: int, split: str) -> None:
    task = KeyNeedles(lengths=1200, values=values, needles=needles, asked=asked, split=split)
    for example in task.examples(Words(), 6, 0, 4):
        answer = solve(example)
        assert answer == example.references[0]
        score = task.score(example, f"**{answer}**")
        assert (score.value, score.exact) == (1.0, True)


def test_every_needle_is_a_template_of_the_split() -> None:
    for split, words in (("test", TEST), ("train", TRAIN)):
        task = KeyNeedles(lengths=1500, needles=5, depths=None, split=split, values="word")
        for example in task.examples(Words(), 4, 0, 4):
            parts = {"thing": "secret word", "key": f"({'|'.join(words.keys)})", "value": f"({'|'.join(words.words)})"}
            forms = [template.removesuffix(".").format(**parts) + r"\." for template in words.templates]
            assert sum(len(re.findall(form, example.context)) for form in forms) == 5


def folded(words: NeedleWords) -> dict[str, set[str]]:
    return {name: {word.casefold() for word in getattr(words, name)} for name in ("keys", "names", "words")}


def test_the_splits_share_nothing() -> None:
    test, train = folded(TEST), folded(TRAIN)
    everything = [part for split in (test, train) for part in split.values()]
    assert all(len(part) == 32 for part in everything)
    assert len(set().union(*everything)) == sum(len(part) for part in everything)
    assert not set(TEST.templates) & set(TRAIN.templates)
    for template in TEST.templates + TRAIN.templates:
        assert sorted(re.findall(r"\{(\w+)\}", template)) == ["key", "thing", "value"]


def test_the_splits_numbers_differ_by_their_digit_sum() -> None:
    for split, parity in (("test", 0), ("train", 1)):
        task = KeyNeedles(lengths=400, needles=1, split=split)
        numbers = [example.references[0] for example in task.examples(Words(), 50, 0, 4)]
        assert {needle_words.digit_sum(number) % 2 for number in numbers} == {parity}
        assert len({number[0] for number in numbers}) > 5
        assert len({number[-1] for number in numbers}) > 5


def test_the_asked_needle_stands_at_the_depth() -> None:
    task = KeyNeedles(lengths=8000, depths=[0.0, 0.25, 0.5, 0.75, 1.0], needles=6)
    for example in task.examples(Words(), 10, 0, 4):
        haystack = example.context.split("\n\n", 1)[1]
        before = haystack.split(example.references[0])[0]
        assert len(haystack.split()) == 7800
        assert abs(len(before.split()) / 7800 - float(example.labels["depth"])) < 0.05


def numbered(asked: int) -> tuple[KeyNeedles, Example]:
    task = KeyNeedles(asked=asked)
    references = ("48213",) if asked == 1 else ("48213, 70312",)
    return task, Example("x", "", "", references, 16)


@pytest.mark.parametrize(
    ("asked", "answer", "value", "exact"),
    [
        (1, "48213", 1.0, True),
        (1, "The secret number of Berlin is 48,213.", 1.0, True),
        (1, "<b>48213</b>\n48213 it is, in 1 word", 1.0, True),
        (1, "48213 or 70312", 1.0, False),
        (1, "448213", 0.0, False),
        (1, "4821", 0.0, False),
        (1, "48213.", 1.0, True),
        (1, "４８２１３", 1.0, True),
        (2, "48213, 70312", 1.0, True),
        (2, "48213,70312", 1.0, True),
        (2, "70312 and 48213", 1.0, False),
        (2, "70312", 0.5, False),
        (2, "none", 0.0, False),
    ],
)
def test_score_of_numbers(asked: int, answer: str, value: float, exact: bool) -> None:
    task, example = numbered(asked)
    score = task.score(example, answer)
    assert (score.value, score.exact) == (value, exact)


@pytest.mark.parametrize(
    ("kind", "reference", "answer", "value", "exact"),
    [
        ("name", "Ingrid", "It is INGRID!", 1.0, True),
        ("name", "Ingrid", "Ingrids", 0.0, False),
        ("name", "Ingrid", "Ingrid, not Tobias", 1.0, False),
        ("word", "copper", "_copper_", 1.0, True),
        ("word", "copper", "coppersmith", 0.0, False),
        ("word", "copper", "the button of copper", 1.0, False),  # the other split's value is a wrong one too
    ],
)
def test_score_of_names_and_words(kind: str, reference: str, answer: str, value: float, exact: bool) -> None:
    score = KeyNeedles(values=kind).score(Example("x", "", "", (reference,), 16), answer)
    assert (score.value, score.exact) == (value, exact)
