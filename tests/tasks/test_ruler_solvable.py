"""Every task of RULER has one answer, which its prompt tells."""

from __future__ import annotations

import math
import re

import pytest

from tasks.corpus import corpus
from tasks.errors import TaskError
from tasks.ruler.frequent_words import zeta
from tasks.ruler.haystacks import NOISE, Essay
from tasks.ruler.needles import DEPTHS
from tests.tasks.prose_tokenizers import Bytes, Words
from tests.tasks.ruler_tasks import (
    ALL,
    MADE,
    NEEDLES,
    coded,
    entries,
    holders,
    made,
    question_sets,  # noqa: F401 - a fixture
    shown,
    solve,
    task,
)

SINGLE = tuple(name for name in NEEDLES if name not in ("niah_multivalue", "niah_multiquery"))
every_task = pytest.mark.parametrize("name", ALL)


@every_task
@pytest.mark.parametrize("length", [1024, 5000])
def test_the_prompt_tells_the_answer(name: str, length: int, data: dict[str, str]) -> None:
    asked = task(name, data, lengths=length)
    for example in asked.examples(Words(), 4, 3, 32):
        score = asked.score(example, f" {solve(name, example)}.\n")
        assert (score.value, score.exact) == (1.0, True)


@every_task
def test_wrong_answers_score_nothing(name: str, data: dict[str, str]) -> None:
    asked = task(name, data, lengths=1024)
    one, other = asked.examples(Words(), 2, 0, 32)
    wrong = "zzzz" if name == "cwe" else solve(name, other)  # two lists may share a word
    for prediction in ("", "\n", "\0\x1f", "?" * 100_000, "ﷺ" * 1000, "\ud800", wrong):
        score = asked.score(one, prediction)
        assert (score.value, score.exact) == (0.0, False)


@every_task
def test_the_chat_template_is_left_out_when_asked(name: str, data: dict[str, str]) -> None:
    chat, plain = (task(name, data, lengths=1024, chat=chat) for chat in (True, False))
    for asked, said in ((chat, True), (plain, False)):
        example = asked.examples(Words(), 1, 0, 32)[0]
        tokens = Words()
        prompt = tokens.decode(asked.prompt(example, tokens, 32, 1024).tokens)
        assert prompt.startswith("<user> ") == said
        assert (f"<assistant> {' '.join(example.answer_prefix.split())}" in prompt) == said
        assert prompt.endswith(" ".join(example.answer_prefix.split()))


@pytest.mark.parametrize("name", NEEDLES)
def test_needles_stand_once_each(name: str) -> None:
    asked = made(name, lengths=2048)
    for example in asked.examples(Words(), 5, 0, 32):
        assert len(example.references) == (4 if name in ("niah_multivalue", "niah_multiquery") else 1)
        told = re.findall(r"One of the special magic (?:numbers|uuids) for (.+?) is: (\S+)\.", example.context)
        keys, values = zip(*told, strict=True)
        assert len(set(values)) == len(values)
        assert len(set(keys)) == (1 if name == "niah_multivalue" else len(keys))
        for reference in example.references:
            assert shown(example).count(reference) == 1
        if "uuid" in example.question:
            assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", example.references[0])
        else:
            assert all(re.fullmatch(r"[1-9]\d{6}", reference) for reference in example.references)
        count = {"niah_multikey_1": 4, "niah_multivalue": 4, "niah_multiquery": 4}.get(name, 1)
        assert len(told) == count or (name in ("niah_multikey_2", "niah_multikey_3") and len(told) > 30)


@pytest.mark.parametrize("name", ["niah_single_2", "niah_multikey_1", "niah_multivalue"])
def test_the_essay_is_the_front_of_the_corpus_with_needles_between_sentences(name: str) -> None:
    for example in made(name, lengths=2048).examples(Words(), 5, 1, 32):
        hay = example.context.split(" afterwards.\n")[1]
        parts = re.split(r"One of the special magic numbers for .+? is: \d{7}\.", hay)
        assert " ".join(corpus("novels").text.split()).startswith(" ".join(" ".join(parts).split()))
        for before in parts[:-2]:
            assert not before.strip() or re.search(r"[.!?][\"')\]”’_*]*$", before.strip())


def test_the_asked_needles_stand_in_any_order() -> None:
    """Of values and of keys: reading the text from its front is no way to the answer."""
    for name in ("niah_multikey_1", "niah_multivalue", "niah_multiquery"):
        places = set()
        for example in made(name, lengths=1024).examples(Words(), 40, 0, 32):
            told = re.findall(r" is: (\d{7})\.", example.context)
            places.add(tuple(told.index(reference) for reference in example.references))
        assert {order[0] for order in places} == {0, 1, 2, 3}
        assert len(places) > (3 if name == "niah_multikey_1" else 12)


def test_depths_are_those_of_the_script() -> None:
    numpy = pytest.importorskip("numpy")
    assert list(DEPTHS) == list(numpy.round(numpy.linspace(0, 100, num=40, endpoint=True)).astype(int))


@pytest.mark.parametrize("name", SINGLE)
def test_the_label_tells_the_depth(name: str) -> None:
    examples = made(name, lengths=4096).examples(Words(), 12, 0, 32)
    assert len({example.labels["depth"] for example in examples}) > 6
    for example in examples:
        hay = example.context.split(" afterwards.\n")[1]
        front = hay[: hay.index(example.references[0])]
        share = len(re.findall(r"[.!?]\W", front)) / len(re.findall(r"[.!?]\W", hay))
        assert share == pytest.approx(example.labels["depth"], abs=0.05)


@pytest.mark.parametrize(
    ("count", "percent", "place"),
    [(8, 0, 0), (8, 50, 4), (8, 99, 6), (8, 100, 8), (7, 100, 7), (5, 100, 5), (5, 50, 2), (16, 50, 8), (13, 100, 13)],
)
def test_a_needle_stands_before_a_sentence_or_at_the_end(count: int, percent: int, place: int) -> None:
    assert Essay("A b. C d! Mr. F? G h.").place(count, percent) == place


def test_the_outermost_needles_stand_at_the_edges() -> None:
    """With the spaces that the script's empty first and last parts leave."""
    examples = made("niah_single_2", lengths=512).examples(Words(), 120, 0, 32)
    front = [example.context for example in examples if example.labels["depth"] == 0]
    end = [example.context for example in examples if example.labels["depth"] == 1]
    assert front and all(" afterwards.\n One of the special" in context for context in front)
    assert end and all(re.search(r"\S One of the special magic numbers for .+ is: \d{7}\. $", text) for text in end)


def test_keys_are_distinct_where_chance_would_repeat_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.ruler.needles.word_list", lambda name: (f"{name}1", f"{name}2", f"{name}3"))
    example = made("niah_multiquery", queries=9, lengths=1024).examples(Words(), 1, 0, 32)[0]
    assert len(set(re.findall(r"magic numbers for (\S+) is:", example.context))) == 9


def test_several_answers_have_no_depth() -> None:
    for name in ("niah_multivalue", "niah_multiquery", "vt", "cwe", "fwe"):
        assert set(made(name, lengths=1024).examples(Words(), 1, 0, 32)[0].labels) == {"length"}


def test_noise_is_nothing_but_the_five_sentences() -> None:
    example = made("niah_single_1", lengths=1024).examples(Words(), 1, 0, 32)[0]
    lines = example.context.split(" afterwards.\n")[1].split("\n")
    assert sum(line != NOISE for line in lines) == 1


@pytest.mark.parametrize("chains", [1, 3])
def test_a_chain_is_assigned_once_and_in_order(chains: int) -> None:
    for example in made("vt", lengths=2048, chains=chains).examples(Words(), 5, 0, 32):
        solved, asked = example.context.split("\n\nMemorize and track")
        assert holders(shown(example)) == list(example.references)
        assert all(re.fullmatch("[A-Z]{5}", name) for name in example.references)
        variables = re.findall(r"^VAR (\w+) = ", asked, re.MULTILINE)
        assert len(set(variables)) == len(variables) == 5 * chains
        value = re.findall(r"VAR \w+ = (\d+)$", asked, re.MULTILINE)
        assert len(set(value)) == chains and all(10_000 <= int(number) <= 99_998 for number in value)
        # The solved example is one of the same form, with three letters and an answer.
        text, answer = solved.split(" they are: ")
        assert holders(text.split(" Answer:")[0]) == answer.split()
        assert all(re.fullmatch("[A-Z]{3}", name) for name in answer.split()) and len(answer.split()) == 5
        assert not set(value) & set(re.findall(r"= (\d+)$", solved, re.MULTILINE))


def test_the_solved_example_has_as_many_hops_as_what_is_asked() -> None:
    example = made("vt", lengths=4096, hops=12).examples(Words(), 1, 0, 32)[0]
    solved, _ = example.context.split("\n\nMemorize and track")
    text, answer = solved.split(" they are: ")
    assert "text above, 13 variables are assigned" in text
    assert holders(text.split(" Answer:")[0]) == answer.split()
    assert len(answer.split()) == len(example.references) == 13


@pytest.mark.parametrize(("length", "common", "other", "example"), [(2048, 6, 1, (3, 1)), (4096, 30, 3, (10, 3))])
def test_common_words_stand_as_often_as_they_should(
    length: int, common: int, other: int, example: tuple[int, int]
) -> None:
    for made_one in made("cwe", lengths=length).examples(Words(), 3, 0, 32):
        counts = entries(shown(made_one))
        assert {word for word, count in counts.items() if count == common} == set(made_one.references)
        assert sorted(set(counts.values())) == [other, common]
        solved, answer = made_one.context.split("Answer: The top 10 words that appear most often in the list are: ")
        shown_counts = entries(solved)
        assert sorted(set(shown_counts.values())) == [example[1], example[0]]
        assert len(shown_counts) == (20 if length < 4096 else 40)
        told = re.findall(r"\d+\. (.+?)(?= \d+\. |$)", answer.split("\n")[0])
        assert {word for word, count in shown_counts.items() if count == example[0]} == set(told)
        assert len(told) == 10


@pytest.mark.parametrize("alpha", [1.5, 2.0, 3.5])
def test_coded_words_follow_the_law(alpha: float) -> None:
    scipy = pytest.importorskip("scipy.special")
    assert zeta(alpha) == pytest.approx(scipy.zeta(alpha), rel=1e-9)
    example = made("fwe", lengths=4096, alpha=alpha).examples(Words(), 1, 0, 32)[0]
    counts = [count for _, count in coded(shown(example)).most_common()]
    law = [rank**-alpha / scipy.zeta(alpha) for rank in range(1, (4096 - 50) // 50 + 1)]
    drawn = range(int(counts[0] / law[0]), math.ceil((counts[0] + 1) / law[0]) + 1)
    assert any([n for share in law if (n := int(total * share))] == counts for total in drawn)
    assert counts[3] > counts[4]
    ranked = [word for word, _ in coded(shown(example)).most_common(4)]
    assert ranked == ["...", *example.references]


def test_a_text_too_short_to_tell_the_third_word_from_the_next_is_refused() -> None:
    refused = 0
    for length in range(600, 900, 10):
        try:
            counts = coded(shown(made("fwe", lengths=length).examples(Bytes(), 1, 0, 1)[0])).most_common()
        except TaskError:
            refused += 1
            continue
        assert counts[3][1] > counts[4][1]
    assert 0 < refused < 30


def test_all_needles_may_be_asked_for() -> None:
    asked = made("niah_multiquery", queries=10, values=4, lengths=2048)
    example = asked.examples(Words(), 1, 0, 32)[0]
    assert len(set(example.references)) == 40
    assert asked.score(example, solve("niah_multiquery", example)).exact
    assert asked.score(example, " ".join(example.references[:10])).value == 0.25


def test_examples_are_distinct() -> None:
    for name in MADE:
        examples = made(name, lengths=1024).examples(Words(), 20, 0, 32)
        assert len({example.references for example in examples}) == 20
        assert len({example.context for example in examples}) == 20
        assert len({example.id for example in examples}) == 20
