"""RULER's tasks as conf/task/ruler makes them, small question sets in the official formats, a solver for each task."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from runners.building import build
from runners.composition import compose_sweep
from tasks.ruler.frame import RulerTask
from tasks.task import Example

CONF = Path(__file__).parents[2] / "conf"
NEEDLES = (
    *("niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multikey_2", "niah_multikey_3"),
    *("niah_multivalue", "niah_multiquery"),
)
MADE = (*NEEDLES, "vt", "cwe", "fwe")
QUESTIONS = ("qa_1", "qa_2")
ALL = (*MADE, *QUESTIONS)


def made(name: str, **fields: Any) -> RulerTask:
    """The task of a file of conf/task/ruler with some fields changed."""
    task = build("task", {**section(name), **fields})
    assert isinstance(task, RulerTask)
    return task


@pytest.fixture(scope="module", name="data")
def question_sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The folders of both question sets."""
    folder = tmp_path_factory.mktemp("data")
    return {"qa_1": str(write_squad(folder)), "qa_2": str(write_hotpotqa(folder))}


def task(name: str, data: dict[str, str], **fields: Any) -> RulerTask:
    """As `made`, with the small question sets where the task needs one."""
    return made(name, **fields, **({"data": data[name]} if name in QUESTIONS else {}))


@cache
def section(name: str) -> dict[str, Any]:
    composed = compose_sweep([f"task=ruler/{name}"], CONF, multirun=False)
    assert composed
    return dict(composed[0]["task"])


def code(number: int) -> str:
    return f"zq{number * 7919 % 100_000:05d}x"


def write_squad(folder: Path, articles: int = 5, paragraphs: int = 8, words: int = 30) -> Path:
    """Paragraphs `The code of entry {n} is {code}.`, each with a question and one that has no answer."""
    numbers = iter(range(articles * paragraphs))
    data = [
        {
            "title": f"article {article}",
            "paragraphs": [_squad_paragraph(next(numbers), words) for _ in range(paragraphs)],
        }
        for article in range(articles)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dev-v2.0.json").write_text(json.dumps({"version": "v2.0", "data": data}))
    return folder


def _squad_paragraph(number: int, words: int) -> dict[str, Any]:
    text = f"The code of entry {number} is {code(number)}. " + " ".join(["Nothing else is told."] * (words // 4))
    answers = [{"text": code(number), "answer_start": 0}, {"text": code(number).upper(), "answer_start": 0}]
    return {
        "context": text,
        "qas": [
            {"id": f"{number}a", "question": f"What is the code of entry {number}?", "answers": answers}
            | {"is_impossible": False},
            {"id": f"{number}b", "question": f"Who wrote {number}?", "answers": [], "plausible_answers": answers}
            | {"is_impossible": True},
        ],
    }


def write_hotpotqa(folder: Path, count: int = 20, words: int = 12) -> Path:
    """Questions of ten paragraphs each, the third of which answers."""
    filler = [f" Nothing of {word}." for word in range(words // 3)]
    rows = [
        {
            "_id": f"id{number}",
            "question": f"What is the code of entry {number}?",
            "answer": code(number),
            "supporting_facts": [[f"title {number} 2", 0]],
            "context": [[f"title {number} {place}", [_told(number, place), *filler]] for place in range(10)],
            "type": "bridge",
            "level": "hard",
        }
        for number in range(count)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hotpot_dev_distractor_v1.json").write_text(json.dumps(rows))
    return folder


def _told(number: int, place: int) -> str:
    return f"The code of entry {number} is {code(number)}." if place == 2 else f"Entry {number} has part {place}."


def shown(example: Example) -> str:
    """The user's text."""
    return example.context + example.question


def solve(name: str, example: Example) -> str:
    """The answer, read off the prompt alone."""
    text = shown(example)
    if name in NEEDLES:
        return solve_needles(text)
    if name == "vt":
        return " ".join(holders(text))
    if name == "cwe":
        return " ".join(word for word, _ in entries(text).most_common(10))
    if name == "fwe":
        return ", ".join(word for word, _ in coded(text).most_common(4) if word != "...")
    asked = re.findall(r"Question: What is the code of (entry \d+)\?$", text)
    return re.findall(rf"The code of {asked[0]} is (\w+)\.", text)[0]


def solve_needles(text: str) -> str:
    kind, asked = re.findall(
        r"\nWhat (?:is|are all) the special magic (\w+?)s? for (.+) mentioned in the provided", text
    )[0]
    keys = asked.replace(", and ", ", ").split(", ")
    told = re.findall(rf"One of the special magic {kind}s for (.+?) is: (\S+)\.", text)
    return ", ".join(value for asked_key in keys for key, value in told if key == asked_key)


def holders(text: str) -> list[str]:
    """The variables of the last text that hold the value asked for, in the order they stand there."""
    *_, last = text.split("Memorize and track the chain(s)")
    value = re.findall(r"assigned the value (\d+) in the text above\.$", last)[0]
    found: list[str] = []
    for name, source in re.findall(r"^VAR ([A-Z]+) = (?:VAR )?(\w+) ?$", last, re.MULTILINE):
        if source == value or source in found:
            found.append(name)
    return found


def entries(text: str) -> Counter[str]:
    """How often each word stands in the last numbered list."""
    *_, last = text.split("appear most often.\n")
    listed = last.split("\nQuestion: ")[0]
    return Counter(re.findall(r"(?:^| )\d+\. (.+?)(?= \d+\. |$)", listed))


def coded(text: str) -> Counter[str]:
    """How often each word stands in a coded text."""
    return Counter(re.findall(r"appeared coded words\. (.+)\nQuestion: Do not", text)[0].split(" "))
