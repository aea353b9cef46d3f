"""Lessons: what they say, how they are cut into tokens, and that they hold nothing of the tests."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random

import numpy as np
import pytest
from tokenizers import pre_tokenizers

from mage.models import vocabulary
from mage.models.bpe import DIGIT_SPLIT, GPT2_SPLIT, Special, byte_level_bpe
from mage.models.chat import CHATML, ChatTemplate
from mage.models.tokenizer import Tokenizer as FileTokenizer
from tasks import longbench, needle, needle_words
from tasks.corpus import corpus
from tasks.errors import TaskError
from tasks.lessons import aggregates, facts, requests, secrets, wordings
from tasks.lessons.frame import frame
from tasks.lessons.lesson import Lesson
from tasks.lessons.mix import KINDS, LessonMix, Lessons
from tasks.lessons.needles import Needles
from tasks.lessons.passages import Passages, joined
from tasks.ruler import needles as ruler_needles
from tasks.ruler.common_words import RulerCommonWords
from tasks.ruler.needles import RulerNeedles
from tasks.ruler.variables import RulerVariables
from tasks.task import Tokenizer

STOP = 151_645
DRAWN = 60


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return vocabulary.qwen(151_669, (STOP,), {})


@pytest.fixture(scope="module")
def drawn(tokenizer: Tokenizer) -> list[Lesson]:
    rng = np.random.default_rng(3)
    lessons = LessonMix().lessons(tokenizer, STOP)
    return [lessons.draw(rng) for _ in range(DRAWN)]


def gpt2_like() -> FileTokenizer:
    """Byte pairs under GPT-2's split, digits alone; only here does a line break join another, but no full stop."""
    ids = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [("Ċ", "Ċ"), (".", "Ċ"), ("Ġ", "t"), ("t", "h"), ("Ġ", "W"), ("i", "s")]
    ids |= {"".join(pair): len(ids) + place for place, pair in enumerate(merges)}
    specials = [Special(400, "<|im_start|>"), Special(401, "<|im_end|>")]
    template = ChatTemplate(CHATML, {}, {}, "test")
    return FileTokenizer(byte_level_bpe(ids, merges, [DIGIT_SPLIT, GPT2_SPLIT], specials), "test", template)


def test_the_training_novels_are_prose_of_their_own() -> None:
    novels = corpus("novels_train").text
    assert 2_500_000 < len(novels) < 3_200_000
    assert "So, I called myself Pip, and came to be called Pip." in novels
    assert not re.search(r"[Gg]utenberg|GUTENBERG|http|^Produced by|^\*|_|Illustration", novels, re.MULTILINE)
    tested = set(corpus("novels").text.split("\n\n"))
    long = [text for text in novels.split("\n\n") if len(text) > 60]
    assert len(long) > 5000
    assert not tested.intersection(long)


def test_no_wording_word_or_number_is_of_the_tests() -> None:
    tested = needle_words.TEST
    for wording in wordings.STATEMENTS:
        assert wording not in tested.templates
        assert {"{thing}", "{key}", "{value}"} == {part for part in ("{thing}", "{key}", "{value}") if part in wording}
    assert len(set(wordings.STATEMENTS)) >= 40
    assert len(set(wordings.QUESTIONS)) >= 30
    assert len(set(wordings.INTRODUCTIONS)) >= 12
    rng = Random(1)
    forbidden = {*tested.keys, *tested.names, *tested.words}
    for _ in range(300):
        fact = facts.draw_fact(rng, "Ruth")
        made = [fact.statement, fact.sentence, fact.value, *fact.questions, *Needles(rng).told]
        made += aggregates.Aggregates(rng).told
        words = {word.strip(".,:?!'\"") for text in made for word in text.replace("-", " ").split()}
        assert not forbidden & words
        numbers = [word for word in words if word.isdecimal() and len(word) == needle_words.DIGITS]
        assert all(needle_words.digit_sum(number) % 2 for number in numbers)


def test_no_benchmark_is_quoted() -> None:
    texts = [
        *wordings.STATEMENTS,
        *wordings.QUESTIONS,
        *wordings.QUESTIONS_ABOUT_SEVERAL,
        *wordings.INTRODUCTIONS,
        *requests._ABOUT_PASSAGE,
        *aggregates._FIRST,
        *aggregates._NEXT,
        *aggregates._WHO_HAS,
        *aggregates._COMMONEST,
    ]
    things = [thing for named in secrets.THINGS.values() for thing in named]
    templates = json.loads((Path(longbench.__file__).parent / "dataset2prompt.json").read_text())
    quoted = [*templates.values(), ruler_needles.NEEDLE, needle.Needle.needle]
    quoted += [RulerNeedles.template, RulerVariables.template, RulerCommonWords.template]
    assert not any("special magic" in text for text in texts + things)
    assert not any(text.casefold() in quote.casefold() for text in texts if len(text) > 20 for quote in quoted)


def test_the_same_generator_gives_the_same_lesson(tokenizer: Tokenizer, drawn: list[Lesson]) -> None:
    rng = np.random.default_rng(3)
    lessons = LessonMix().lessons(tokenizer, STOP)
    assert [lessons.draw(rng) for _ in range(10)] == drawn[:10]
    assert drawn[0] != drawn[1]


def test_branches_are_what_they_are_said_to_be(drawn: list[Lesson]) -> None:
    kinds = {branch.kind for lesson in drawn for branch in lesson.branches}
    assert kinds == set(KINDS) - {"sampled"}
    for lesson in drawn:
        assert 5 <= len(lesson.branches) <= 8
        for branch in lesson.branches:
            assert branch.answer
            assert (branch.answer[-1] == STOP) == branch.finished
            assert STOP not in branch.answer[:-1]
            assert branch.finished or len(branch.answer) >= 16
        if lesson.branches[0].kind == "needle":
            assert [branch.kind for branch in lesson.branches].count("copy") == 1


def test_contexts_have_the_lengths_asked_for(tokenizer: Tokenizer) -> None:
    rng = np.random.default_rng(0)
    lessons = LessonMix(weights={"needle": 1, "plain": 1}, lengths=((300, 400, 1),)).lessons(tokenizer, STOP)
    lengths = [len(lessons.draw(rng).context) for _ in range(40)]
    assert np.median(lengths) == pytest.approx(350, abs=60)
    assert max(lengths) < 700


@pytest.mark.parametrize("system", [False, True])
@pytest.mark.parametrize("name", ["qwen", "gpt2"])
def test_context_and_prompt_are_the_tokens_of_the_whole_chat(name: str, system: bool, tokenizer: Tokenizer) -> None:
    chosen = tokenizer if name == "qwen" else gpt2_like()
    framed = frame(chosen, 401, system)
    assert framed.gap_leads == (name == "gpt2")
    passages, rng = Passages(corpus("novels_train").text, chosen), Random(2)
    for _ in range(30):
        text, gap, needles = passages.draw(rng, 60), rng.choice(("\n\n", "\n")), Needles(rng)
        hidden = joined(needles.hidden_in(rng, text))
        question = needles.question(rng).text
        whole = chosen.chat(hidden + gap + question)
        if not system:
            assert "helpful assistant" in whole
            whole = whole[whole.rindex("<|im_start|>user") :]
        assert framed.context(hidden, gap) + framed.prompt(question, gap) == chosen.encode(whole)


def test_an_opening_that_is_given_is_the_answers_beginning(tokenizer: Tokenizer) -> None:
    framed = frame(tokenizer, STOP)
    plain = framed.branch("needle", "Where is it?", "It is in Rome.")
    given = framed.branch("needle", "Where is it?", "It is in Rome.", given="It is")
    assert given.prompt + given.answer == plain.prompt + plain.answer
    assert tokenizer.decode(given.answer[:-1]) == " in Rome."
    unlike = framed.branch("needle", "Where is it?", "It is in Rome.", given="It i")
    assert unlike == plain


def test_what_is_copied_stands_in_the_lesson(tokenizer: Tokenizer) -> None:
    rng = np.random.default_rng(4)
    lessons = LessonMix(weights={"copy": 1}).lessons(tokenizer, STOP)
    sizes = []
    for _ in range(20):
        lesson = lessons.draw(rng)
        for branch in lesson.branches:
            answer = tokenizer.decode(branch.answer[:-1])
            assert answer in tokenizer.decode(lesson.context + branch.prompt)
            sizes.append(len(branch.answer))
    assert np.mean(np.array(sizes) >= 20) > 0.85
    assert max(sizes) <= 91


def test_what_a_needle_lesson_asks_stands_in_its_text(tokenizer: Tokenizer) -> None:
    rng = np.random.default_rng(5)
    lessons = LessonMix(weights={"needle": 1}).lessons(tokenizer, STOP)
    asked = found = 0
    for _ in range(30):
        lesson = lessons.draw(rng)
        text = tokenizer.decode(lesson.context)
        for branch in lesson.branches:
            numbers = [w.strip(".*\"'") for w in tokenizer.decode(branch.answer).replace(",", " ").split()]
            numbers = [word for word in numbers if word.isdecimal() and len(word) >= 3]
            asked += len(numbers)
            found += sum(number in text for number in numbers)
    assert asked > 50
    assert found == asked


@pytest.mark.parametrize("settled", [True, False])
def test_a_settled_question_about_one_needle_has_one_answer(settled: bool) -> None:
    forms: dict[tuple[int, str], set[str]] = {}
    for seed in range(40):
        needles = Needles(Random(seed), settled)
        rng = Random(seed)
        for _ in range(300):
            asked = needles.question(rng)
            if ", " not in asked.answer and " and " not in asked.answer and "\n" not in asked.answer:
                forms.setdefault((seed, asked.text), set()).add(asked.answer)
    repeated = [answers for answers in forms.values() if len(answers) > 1]
    assert len(forms) > 500
    assert (repeated == []) == settled


def test_sampled_answers_are_grouped_by_context(tmp_path: Path, tokenizer: Tokenizer) -> None:
    file = tmp_path / "samples.jsonl"
    rows = [
        {"context": [1, 2], "prompt": [3], "answer": [4, STOP], "finished": True},
        {"context": [9], "prompt": [3], "answer": [5], "finished": False},
        {"context": [1, 2], "prompt": [6], "answer": [7, STOP], "finished": True},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lessons = LessonMix(weights={"sampled": 1}, sampled=str(file)).lessons(tokenizer, STOP)
    rng = np.random.default_rng(0)
    seen = {tuple(lesson.context): len(lesson.branches) for lesson in (lessons.draw(rng) for _ in range(20))}
    assert seen == {(1, 2): 2, (9,): 1}
    file.write_text('{"context": [1]}\n')
    with pytest.raises(TaskError, match="line 1"):
        LessonMix(sampled=str(file)).lessons(tokenizer, STOP)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": {"needel": 1}}, "needle"),
        ({"weights": {"sampled": 1}}, "file"),
        ({"weights": {"needle": -1}}, "from 0"),
        ({"lengths": ((10, 5, 1),)}, "lengths"),
        ({"branches": (0, 3)}, "branches"),
        ({"system": 2}, "system"),
    ],
)
def test_a_mixture_that_cannot_work_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        LessonMix(**changes)  # type: ignore[arg-type]


def test_lessons_have_the_kinds_of_the_mixture() -> None:
    assert tuple(Lessons.kinds) == KINDS
