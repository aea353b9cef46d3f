"""RULER's prompts: official wording, ids, hashes and scores."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.task import Example
from tests.tasks.prose_tokenizers import Bytes, Words
from tests.tasks.ruler_tasks import (
    ALL,
    CONF,
    MADE,
    made,
    question_sets,  # noqa: F401 - a fixture
    task,
)

NUMBER = (
    r"A special magic number is hidden within the following text\. Make sure to memorize it\. I will quiz you about "
    r"the number afterwards\.\n(?s:.*)\nWhat is the special magic number for (?P<key>.+) mentioned in the "
    r"provided text\?",
    " The special magic number for {key} mentioned in the provided text is",
)
UUID = tuple(text.replace("number", "uuid") for text in NUMBER)
NUMBERS = (
    r"Some special magic numbers are hidden within the following text\. Make sure to memorize it\. I will quiz you "
    r"about the numbers afterwards\.\n(?s:.*)\nWhat are all the special magic numbers for (?P<key>.+) mentioned in the "
    r"provided text\?",
    " The special magic numbers for {key} mentioned in the provided text are",
)
TRACKED = (
    r"(?s:.*) they are:  \w+ \w+ \w+ \w+ \w+\n\nMemorize and track the chain\(s\) of variable assignment hidden in the "
    r"following text\.\n\n(?s:.*)\nQuestion: Find all variables that are assigned the value (?P<key>\d{5}) in the text "
    r"above\.",
    " Answer: According to the chain(s) of variable assignment in the text above, 5 variables are assigned the value "
    "{key}, they are: ",
)
LIST = (
    r"Below is a numbered list of words\. In these words, some appear more often than others\. Memorize the ones that "
    r"appear most often\.\n1\. .*\nQuestion: What are the 10 most common words in the above list\?"
)
COMMON = (
    rf"{LIST} Answer: The top 10 words that appear most often in the list are: 1\. .* 10\. .*\n{LIST}(?P<key>)",
    " Answer: The top 10 words that appear most often in the list are:",
)
CODED = (
    r"Read the following coded text and track the frequency of each coded word\. Find the three most frequently "
    r"appeared coded words\. [a-z. ]+\nQuestion: Do not provide any explanation\. Please ignore the dots '\.\.\.\.'\. "
    r"What are the three most frequently appeared words in the above coded text\?(?P<key>)",
    " Answer: According to the coded text above, the three most frequently appeared words are:",
)
ORDER = (
    r"Answer the question based on the given documents\. Only give me the answer and do not output any other words\."
)
ANSWERED = (
    rf"{ORDER}\n\nThe following are given documents\.\n\nDocument 1:\n(?s:.*)\n\n{ORDER}\n\nQuestion: (?P<key>.*)",
    " Answer:",
)
WORDING = {
    "niah_single_1": (*NUMBER, 128),
    "niah_single_2": (*NUMBER, 128),
    "niah_single_3": (*UUID, 128),
    "niah_multikey_1": (*NUMBER, 128),
    "niah_multikey_2": (*NUMBER, 128),
    "niah_multikey_3": (*UUID, 128),
    "niah_multivalue": (*NUMBERS, 128),
    "niah_multiquery": (*NUMBERS, 128),
    "vt": (*TRACKED, 30),
    "cwe": (*COMMON, 120),
    "fwe": (*CODED, 50),
    "qa_1": (*ANSWERED, 32),
    "qa_2": (*ANSWERED, 32),
}
every_task = pytest.mark.parametrize("name", ALL)


@every_task
def test_the_wording_is_the_official_one(name: str, data: dict[str, str]) -> None:
    pattern, prefix, max_new_tokens = WORDING[name]
    for example in task(name, data, lengths=4096).examples(Words(), 3, 0, 32):
        found = re.fullmatch(pattern, example.context + example.question)
        assert found
        assert example.answer_prefix == prefix.format(key=found["key"])
        assert example.max_new_tokens == max_new_tokens
        assert example.question.strip().startswith(("What", "Question", "Answer the question"))


def test_four_queries_are_listed_with_an_and() -> None:
    example = made("niah_multiquery", lengths=1024).examples(Words(), 1, 0, 32)[0]
    assert re.search(r" for [^,]+, [^,]+, [^,]+, and [^,]+ mentioned", example.question)


@every_task
def test_a_file_says_what_it_is_for_and_shares_its_name(name: str) -> None:
    file = CONF / "task" / "ruler" / f"{name}.yaml"
    assert file.read_text().startswith("# RULER: ")
    assert f"name: ruler/{name}\n" in file.read_text()
    assert made(name).context_lengths() == (4096,)


def test_there_are_thirteen_files() -> None:
    assert {file.stem for file in (CONF / "task" / "ruler").glob("[a-z]*.yaml")} == set(ALL)


@pytest.mark.parametrize("name", [name for name in MADE if name != "cwe"])
def test_tokenizer_and_block_size_change_the_haystack_alone(name: str) -> None:
    def said(example: Example) -> tuple[object, ...]:
        return example.id, example.question, example.references, example.answer_prefix, example.labels

    asked = made(name, lengths=6000)
    one, two, three = (
        asked.examples(tokenizer, 3, 0, block_size)
        for tokenizer, block_size in ((Words(), 32), (Bytes(), 32), (Words(), 64))
    )
    assert [said(example) for example in one] == [said(example) for example in two]
    assert [said(example) for example in one] == [said(example) for example in three]
    assert [example.context for example in one] != [example.context for example in two]


@every_task
def test_an_example_does_not_depend_on_count(name: str, data: dict[str, str]) -> None:
    asked = task(name, data, lengths=[1024, 2048])
    few = asked.examples(Words(), 3, 7, 32)
    assert task(name, data, lengths=[1024, 2048]).examples(Words(), 6, 7, 32)[:3] == few
    assert [example.labels["length"] for example in few] == [1024, 2048, 1024]
    other = asked.examples(Words(), 3, 8, 32)
    assert not {example.id for example in few} & {example.id for example in other}
    assert [example.context for example in few] != [example.context for example in other]


def test_without_a_count_there_are_as_many_as_published(data: dict[str, str]) -> None:
    assert len(made("niah_single_1", lengths=256).examples(Words(), None, 0, 4)) == 500
    assert len(task("qa_2", data, lengths=600).examples(Words(), None, 0, 4)) == 20  # all that there are


TOLD = ("id", "context", "question", "references", "max_new_tokens", "labels", "chat", "answer_prefix")
FROZEN = {"niah_multikey_3": "6a229a1b", "vt": "9f8df876", "fwe": "de3bc5fe"}


@pytest.mark.parametrize("name", FROZEN)
def test_examples_stay_what_they_were(name: str) -> None:
    """Of tasks without word lists and running text, which have digests of their own. Else raise `version`."""
    examples = made(name, lengths=1024).examples(Words(), 3, 0, 32)
    told = [[getattr(example, name) for name in TOLD] for example in examples]
    assert hashlib.sha256(repr(told).encode()).hexdigest()[:8] == FROZEN[name]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("niah_single_1", {"lengths": [512]}),
        ("niah_single_1", {"lengths": [4096, 512]}),
        ("niah_single_1", {"chat": False}),
        ("niah_single_1", {"filler": "essay"}),
        ("niah_single_1", {"value_type": "uuids"}),
        ("niah_single_1", {"key_type": "numbers"}),
        ("niah_single_1", {"keys": 2}),
        ("niah_single_1", {"values": 2}),
        ("niah_single_1", {"queries": 2}),
        ("vt", {"chains": 2}),
        ("vt", {"hops": 2}),
        ("cwe", {"common_repeats": 20}),
        ("cwe", {"other_repeats": 2}),
        ("fwe", {"alpha": 2.5}),
    ],
    ids=str,
)
def test_the_hash_follows_the_fields(name: str, change: dict[str, Any]) -> None:
    assert made(name, **change).content_hash != made(name).content_hash


def test_the_hash_follows_what_the_haystack_says_and_not_where_it_lies(tmp_path: Path) -> None:
    for folder, text in (("a", "One day."), ("b", "One day."), ("c", "One night.")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "essay.txt").write_text(text)
    one, two, three = (made("niah_single_2", haystack=str(tmp_path / folder)).content_hash for folder in "abc")
    assert one == two != three
    assert made("niah_single_1", haystack=str(tmp_path / "a")).content_hash == made("niah_single_1").content_hash


def test_tasks_have_hashes_of_their_own(data: dict[str, str]) -> None:
    assert len({task(name, data).content_hash for name in ALL}) == len(ALL)


def example(*references: str) -> Example:
    return Example(id="x", context="", question="", references=references, max_new_tokens=8)


@given(
    prediction=st.text(alphabet="aAbB1 \n\0\x1fé", max_size=30),
    references=st.lists(st.text(alphabet="aAbB1é \n", min_size=1, max_size=3), min_size=1, max_size=5),
)
def test_scores_are_the_official_ones(prediction: str, references: list[str]) -> None:
    """Against string_match_all, string_match_part and postprocess_pred as scripts/eval writes them."""
    text = re.compile(r"[\x00-\x1f]").sub("\n", prediction.strip()).strip()
    all_of_them = sum([1.0 if r.lower() in text.lower() else 0.0 for r in references]) / len(references)
    part = max([1.0 if r.lower() in text.lower() else 0.0 for r in references])
    counted = made("vt").score(example(*references), prediction)
    assert (counted.value, counted.exact) == (pytest.approx(all_of_them), all_of_them == 1)
    any_one = made("qa_1").score(example(*references), prediction)
    assert (any_one.value, any_one.exact) == (part, part == 1)


@pytest.mark.parametrize(("reference", "value"), [("b\nc", 1.0), ("b\0c", 0.0), (" b", 0.0), ("b", 1.0)])
def test_blank_ends_go_and_unprintable_characters_become_line_ends(reference: str, value: float) -> None:
    assert made("vt").score(example(reference), " b\0c\t\n").value == value


def test_part_of_the_answer_is_part_of_the_score() -> None:
    score = made("vt").score(example("ABCDE", "FGHIJ", "KLMNO", "PQRST", "UVWXY"), "abcde, uvwxy and nothing")
    assert (score.value, score.exact) == (0.4, False)
