"""Contexts out of prose: how many tokens they have and where the inserts stand."""

from __future__ import annotations

import re
from itertools import pairwise
from random import Random

import pytest

from tasks.corpus import corpus
from tasks.errors import TaskError
from tasks.haystack import Insert
from tasks.prose import Prose
from tasks.task import Tokenizer
from tests.tasks.prose_tokenizers import Bytes, Words

NEEDLE = "The secret number of Berlin is 48213."
SHORT = "One two. Three four five.\n\nSix seven. Eight nine ten."


KINDS = ["words", "bytes", "pair_tokenizer", "unsplit_tokenizer"]


@pytest.fixture(params=KINDS)
def any_tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    own = {"words": Words, "bytes": Bytes}
    return own[request.param]() if request.param in own else request.getfixturevalue(request.param)


def tokens(tokenizer: Tokenizer, text: str) -> int:
    return len(tokenizer.encode(text))


@pytest.mark.parametrize("length", [120, 1000, 8000])
def test_the_length_is_kept_to_less_than_a_word(length: int, any_tokenizer: Tokenizer) -> None:
    prose = Prose(corpus("novels").text, any_tokenizer)
    for depth in (0.0, 0.37, 1.0, None):
        inserts = [Insert(NEEDLE, depth), Insert("Another sentence is here.", None)]
        text = prose.build(inserts, length, Random(f"{length} {depth}"))
        longest = max(tokens(any_tokenizer, word) for word in re.findall(r"\s*\S+", text))
        assert length - longest < tokens(any_tokenizer, text) + 1 <= length + 1
        assert text.count(NEEDLE) == text.count("Another sentence is here.") == 1


def test_one_word_more_is_too_long() -> None:
    """The end is exact where the estimate is: the novels' next word would not fit."""
    novels = corpus("novels").text
    for length in range(300, 340):
        text = Prose(novels, Bytes()).build([], length, Random(length))
        start = novels.index(text[:200])
        following = re.compile(r"\s*\S+").match(novels, start + len(text))
        assert novels.startswith(text, start)
        assert following is not None
        assert tokens(Bytes(), text + following.group()) > length


@pytest.mark.parametrize("any_tokenizer", KINDS[:3], indirect=True)  # the words' tokens add up to the text's
@pytest.mark.parametrize("depth", [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0])
def test_an_insert_stands_behind_the_full_stop_before_its_depth(depth: float, any_tokenizer: Tokenizer) -> None:
    text = Prose(corpus("novels").text, any_tokenizer).build([Insert(NEEDLE, depth)], 4000, Random(1))
    before, after = text.split(NEEDLE)
    wanted = depth * tokens(any_tokenizer, before + after)
    if depth in (0, 1):
        assert (before if depth == 0 else after) == ""
        return
    assert re.search(r"\.[\"”'’)\]]* $", before)
    # No later sentence end lies before the depth: what follows up to there holds none.
    missing = wanted - tokens(any_tokenizer, before)
    assert missing > -3
    rest = [match.end() for match in re.finditer(r"(?<!Mr)(?<!Mrs)(?<!Dr)(?<!St)\.[\"”'’)\]]*(?=\s)", after)]
    assert tokens(any_tokenizer, after[: rest[0]]) > missing - 3


def test_the_measured_depth_is_near_the_wanted_one(any_tokenizer: Tokenizer) -> None:
    prose = Prose(corpus("novels").text, any_tokenizer)
    misses = []
    for index in range(10):
        depth = Random(index).random()
        text = prose.build([Insert(NEEDLE, depth)], 10_000, Random(index))
        before, after = text.split(NEEDLE)
        front = tokens(any_tokenizer, before)
        misses.append(depth - front / (front + tokens(any_tokenizer, after)))
    assert min(misses) > -0.02  # behind the depth only where tokens run across words
    assert sorted(misses)[5] < 0.02
    assert max(misses) < 0.1


def test_a_short_text_starts_over() -> None:
    text = Prose(SHORT, Words()).build([Insert("Needle here.", 0.5)], 1002, Random(0))
    words = text.replace(" Needle here.", "", 1).split()
    assert len(words) == 1000
    # Every word is followed by the one that follows it in the text, whose end is followed by its beginning.
    once = SHORT.split()
    follows = dict(pairwise([*once, once[0]]))
    assert all(follows[a] == b for a, b in pairwise(words))
    assert words[0] in {"One", "Six"}
    assert "ten.\n\nOne two." in text


def test_titles_end_no_sentence() -> None:
    prose = Prose("So. We met Mr. Bennet and “Dr. Watson” and so on without any end to it", Words())
    text = prose.build([Insert("Needle.", 0.9)], 16, Random(0))
    assert text.startswith("So. Needle. We met Mr. Bennet and “Dr. Watson”")


def test_without_a_full_stop_the_insert_stands_at_the_front() -> None:
    text = Prose("no end of it", Words()).build([Insert("Needle.", 0.9)], 10, Random(0))
    assert text == "Needle. no end of it\n\nno end of it\n\nno"


def test_inserts_that_meet_keep_their_order_and_spaces() -> None:
    inserts = [Insert("A.", 0.0), Insert("B.", 0.0), Insert("Y.", 1.0), Insert("Z.", 1.0)]
    assert Prose("one two three", Words()).build(inserts, 7, Random(0)) == "A. B. one two three Y. Z."


def test_random_depths_cover_the_context_and_follow_the_generator() -> None:
    prose = Prose(corpus("novels").text, Words())
    texts = [prose.build([Insert(NEEDLE, None)], 2000, Random(index)) for index in range(40)]
    depths = [tokens(Words(), text.split(NEEDLE)[0]) / 2000 for text in texts]
    assert min(depths) < 0.15
    assert max(depths) > 0.85
    assert prose.build([Insert(NEEDLE, None)], 2000, Random(7)) == texts[7]


def test_no_room_is_refused() -> None:
    with pytest.raises(TaskError, match=r"task\.lengths=6: so many tokens leave no room for prose beside 7 of what"):
        Prose(SHORT, Words()).build([Insert(NEEDLE, 0.5)], 6, Random(0))
