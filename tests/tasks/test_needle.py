"""The original needle in a haystack, and what it and the key-value needles share: cells, ids, hashes, refusals."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.corpus import corpus
from tasks.drawn import DrawnTask
from tasks.errors import TaskError
from tasks.key_needles import KeyNeedles
from tasks.needle import Needle
from tasks.task import Tokenizer
from tests.tasks.prose_tokenizers import Bytes, Words

CONFIGS = Path(__file__).parents[2] / "conf" / "task"
GOLD = "The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny day."
ODD = ["", "\n", "\0", "<b>", "</answer>" * 10, "{{{", "1" * 100_000, "a " * 50_000, "ﷺ" * 5000, "\ud800", "٤٨٢١٣"]


# The original needle.


def test_the_prompt_is_the_original_one() -> None:
    example = Needle(lengths=1000, depths=0.5).examples(Words(), 1, 0, 4)[0]
    start = "You are a helpful AI bot that answers questions for a user. Keep your response short and direct\n\n"
    assert example.context.startswith(start)
    before, after = example.context.removeprefix(start).split(f"\n{GOLD}\n")
    assert before.endswith((".", '."', ".”", ".'"))
    assert re.sub(r"\s+", "", before + after) in re.sub(r"\s+", "", corpus("novels").text * 2)
    assert example.question == (
        "\n\nWhat is the best thing to do in San Francisco? Don't give information outside the document or repeat your "
        "findings"
    )
    assert (example.chat, example.max_new_tokens, example.references) == (True, 128, (GOLD,))
    assert example.labels == {"length": 1000, "depth": 0.5}


@pytest.mark.parametrize(("depth", "start", "end"), [(0.0, f"direct\n\n\n{GOLD}\n", ""), (1.0, "", f"\n{GOLD}\n")])
def test_the_needle_at_the_ends(depth: float, start: str, end: str) -> None:
    example = Needle(lengths=700, depths=depth).examples(Words(), 1, 0, 4)[0]
    assert start in example.context
    assert example.context.endswith(end)


def test_the_context_leaves_the_buffer() -> None:
    for example in Needle(lengths=[600, 1200], buffer=150).examples(Words(), 10, 0, 4):
        haystack = example.context.split("direct\n\n", 1)[1]
        assert len(haystack.split()) == example.labels["length"] - 150  # type: ignore[operator]


@pytest.mark.parametrize(
    ("answer", "value", "exact"),
    [
        (GOLD, 1.0, True),
        ("Eat a sandwich, and sit in DOLORES PARK on a sunny day!", 1.0, True),
        ("**Sunny day**: park, Dolores; sit; sandwich... eat", 1.0, True),
        ("Eat a sandwich and sit in Dolores Park.", 5 / 7, False),
        ("Eat eat eat", 1 / 7, False),
        ("The best thing to do in San Francisco", 0.0, False),  # the question's own words
        ("Parks and sandwiches", 0.0, False),
        ("", 0.0, False),
    ],
)
def test_recall_of_content_words(answer: str, value: float, exact: bool) -> None:
    task = Needle()
    example = task.examples(Words(), 1, 0, 4)[0]
    score = task.score(example, answer)
    assert (score.value, score.exact) == (pytest.approx(value), exact)
    assert task.content_words() == {"eat", "sandwich", "sit", "dolores", "park", "sunny", "day"}


def test_another_needle_and_question() -> None:
    task = Needle(needle=" The cook of the Aurora is Ulla. ", retrieval_question="Who is the cook of the Aurora?")
    assert task.content_words() == {"ulla"}
    example = task.examples(Words(), 1, 0, 4)[0]
    assert "Who is the cook of the Aurora? Don't give" in example.question
    assert task.score(example, "It is Ulla.").exact


def test_the_original_grid() -> None:
    config = yaml.safe_load((CONFIGS / "needle_grid.yaml").read_text())
    task = Needle(lengths=config["lengths"], depths=config["depths"])
    assert len(task.cells()) == 1225
    assert (task.context_lengths()[0], task.context_lengths()[-1]) == (1000, 16000)
    steps = [round(15000 * i / 34) for i in range(35)]
    assert [length - 1000 for length in task.context_lengths()] == steps
    assert task.depths == tuple(round(100 * i / 34) / 100 for i in range(35))


# Both.


@pytest.mark.parametrize("task", [Needle(), KeyNeedles(), KeyNeedles(values="name", asked=2)], ids=str)
@pytest.mark.parametrize("answer", ODD, ids=range(len(ODD)))
def test_odd_answers_score_nothing(task: DrawnTask, answer: str) -> None:
    example = task.examples(Words(), 1, 0, 4)[0]
    score = task.score(example, answer)
    assert (score.value, score.exact) == (0.0, False)


@pytest.mark.parametrize("kind", [Needle, KeyNeedles])
def test_example_i_does_not_depend_on_the_count(kind: type[DrawnTask]) -> None:
    task = kind(lengths=[500, 700], depths=[0.2, 0.8])  # type: ignore[call-arg]
    few, many = task.examples(Words(), 3, 5, 4), task.examples(Words(), 9, 5, 32)
    assert few == many[:3]
    assert len({example.id for example in many}) == len({example.context for example in many}) == 9
    assert [(e.labels["length"], e.labels["depth"]) for e in many[:5]] == [
        (500, 0.2), (500, 0.8), (700, 0.2), (700, 0.8), (500, 0.2)
    ]  # fmt: skip
    assert task.examples(Words(), None, 5, 4) == many[:4]
    other = task.examples(Words(), 3, 6, 4)
    assert not {example.id for example in other} & {example.id for example in few}
    assert other[0].context != few[0].context


def test_the_hash_follows_the_content(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("Some text. And more of it. " * 100)
    tasks = [
        Needle(),
        KeyNeedles(),
        KeyNeedles(split="train"),
        KeyNeedles(values="word"),
        KeyNeedles(lengths=1024),
        KeyNeedles(depths=None),
        KeyNeedles(chat=False),
        KeyNeedles(haystack=str(tmp_path / "here")),
    ]
    assert len({task.content_hash for task in tasks}) == len(tasks)
    assert tasks[-1].content_hash == KeyNeedles(haystack=str(tmp_path / "there")).content_hash
    assert KeyNeedles().content_hash == KeyNeedles(lengths=(1024, 2048, 4096, 8192)).content_hash
    with pytest.raises(TaskError, match="there is no such folder"):
        _ = KeyNeedles(haystack=str(tmp_path / "nowhere")).content_hash


@pytest.mark.parametrize("kind", [Needle, KeyNeedles])
def test_the_prompt_keeps_needle_and_question(kind: type[DrawnTask]) -> None:
    task = kind(lengths=3000, depths=[0.0, 0.5, 1.0], buffer=1000)  # type: ignore[call-arg]
    for tokenizer in (Words(), Bytes()):
        for example in task.examples(tokenizer, 3, 0, 4):
            prompt = task.prompt(example, tokenizer, 4, 4096)
            text = tokenizer.decode(prompt.tokens)
            assert prompt.truncated_tokens == 0
            assert len(prompt.tokens) <= 3000
            assert example.references[0] in text
            assert text.startswith("<user> ")
            assert text.endswith("<assistant>")
            plain = " ".join(example.question.split())
            assert plain in " ".join(text.split())
            assert " ".join(tokenizer.decode(prompt.tokens[prompt.question_start :]).split()).startswith(plain)


@pytest.mark.parametrize("kind", [Needle, KeyNeedles])
def test_prompt_and_answer_fit_their_length_with_qwen(kind: type[DrawnTask], qwen_tokenizer: Tokenizer) -> None:
    tokenizer = qwen_tokenizer
    for example in kind(lengths=[1024, 4096]).examples(tokenizer, 10, 0, 32):  # type: ignore[call-arg]
        length = int(example.labels["length"])
        haystack = example.context.split("\n\n", 1)[1]
        assert length - 204 <= len(tokenizer.encode(haystack)) <= length - 200
        prompt = kind().prompt(example, tokenizer, 32, length)
        assert prompt.truncated_tokens == 0
        assert len(prompt.tokens) + example.max_new_tokens <= length


@pytest.mark.parametrize(
    ("kind", "setting", "line"),
    [
        (Needle, {"lengths": []}, "task.lengths=[]: at least one is needed"),
        (Needle, {"lengths": 200}, "task.lengths=200: allowed are whole numbers from 201 to 4194304 (the buffer is"),
        (Needle, {"lengths": "1024"}, "task.lengths='1024': allowed are whole numbers"),
        (Needle, {"depths": [0.5, 1.5]}, "task.depths=1.5: allowed are numbers from 0 to 1"),
        (Needle, {"buffer": -1}, "task.buffer=-1: allowed are whole numbers from 0"),
        (Needle, {"max_new_tokens": 0}, "task.max_new_tokens=0: allowed are whole numbers from 1"),
        (Needle, {"needle": " "}, "task.needle=' ': allowed are texts that are not empty"),
        (Needle, {"retrieval_question": ""}, "task.retrieval_question='': allowed are texts"),
        (Needle, {"needle": "It is so."}, "task.needle='It is so.': it needs words that are neither"),
        (KeyNeedles, {"split": "tets"}, "task.split='tets': allowed are test, train (did you mean 'test'?)"),
        (KeyNeedles, {"values": "numbers"}, "(did you mean 'number'?)"),
        (KeyNeedles, {"needles": 33}, "task.needles=33: allowed are whole numbers from 1 to 32 (one a city)"),
        (KeyNeedles, {"asked": 5}, "task.asked=5: allowed is at most the number of needles, 4"),
        (KeyNeedles, {"max_prompt_tokens": 1}, "task.max_prompt_tokens=1: allowed are"),
    ],
)
def test_a_wrong_setting_is_one_line(kind: type[DrawnTask], setting: dict[str, Any], line: str) -> None:
    with pytest.raises(TaskError) as caught:
        kind(**setting)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_length_too_small_for_the_needles_is_refused() -> None:
    with pytest.raises(TaskError, match=r"task\.lengths=100: so many tokens leave no room"):
        KeyNeedles(lengths=300, needles=32).examples(Words(), 1, 0, 4)


@pytest.mark.parametrize("count", [0, -1, True])
def test_a_wrong_count_is_refused(count: int) -> None:
    with pytest.raises(TaskError, match=r"examples=.*: allowed are whole numbers above 0, or null"):
        Needle().examples(Words(), count, 0, 4)


@pytest.mark.parametrize(("file", "kind"), [("needle", Needle), ("needle_kv", KeyNeedles)])
def test_the_config_is_the_defaults(file: str, kind: type[DrawnTask]) -> None:
    text = (CONFIGS / f"{file}.yaml").read_text()
    assert text.startswith("# ")
    config = yaml.safe_load(text)
    assert config.pop("_target_") == f"{kind.__module__}.{kind.__qualname__}"
    task = kind(**config)
    assert task.content_hash == kind().content_hash
    assert task.name == file
