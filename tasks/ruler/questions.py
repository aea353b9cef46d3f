"""The questions and documents behind RULER's qa tasks: the development sets of SQuAD 2.0 and HotpotQA (distractor)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tasks.errors import refused
from tasks.sources import HubFile, locate

HUB = "hub"

FILES = {
    "squad": ("squad.json", "dev-v2.0.json"),
    "hotpotqa": ("hotpotqa.json", "hotpot_dev_distractor_v1.json"),
}
"""Names that RULER's download script and the sets' own sites give the official files."""

TABLES = {
    "squad": HubFile(("rajpurkar/squad_v2",), "squad_v2/validation-00000-of-00001.parquet"),
    "hotpotqa": HubFile(("hotpotqa/hotpot_qa",), "distractor/validation-00000-of-00001.parquet"),
}
"""Where the hub has the same rows as tables."""


@dataclass(frozen=True)
class Question:
    """`own` are the documents that belong to the question, `near` others of the same article; both by number."""

    text: str
    answers: tuple[str, ...]
    own: tuple[int, ...]
    near: tuple[int, ...] = ()


@dataclass(frozen=True)
class Questions:
    """A set of questions, its documents (sorted, each once), and the digest of both."""

    questions: tuple[Question, ...]
    documents: tuple[str, ...]
    digest: str


@lru_cache(maxsize=2)
def questions(dataset: str, data: str) -> Questions:
    """Read a set once a process.

    dataset: `squad` or `hotpotqa`. data: `hub`, or a folder with the official JSON file.
    Raises TaskError when the data cannot be had or is not in the official format.
    """
    rows = _hub_rows(dataset) if data == HUB else _file_rows(dataset, data)
    try:
        return _squad(rows) if dataset == "squad" else _hotpotqa(rows)
    except (KeyError, TypeError, ValueError) as error:
        raise refused("data", data, f"not {dataset} in its official format ({error!r})") from error


def _squad(articles: Iterable[Mapping[str, Any]]) -> Questions:
    """read_squad of qa.py: the questions that have an answer."""
    listed = [[(p["context"], p["qas"]) for p in article["paragraphs"]] for article in articles]
    documents = sorted({context for article in listed for context, _ in article})
    number = {context: index for index, context in enumerate(documents)}
    found = []
    for article in listed:
        numbers = [number[context] for context, _ in article]
        for context, asked in article:
            own = number[context]
            near = tuple(other for other in dict.fromkeys(numbers) if other != own)
            for row in asked:
                if not row["is_impossible"]:
                    answers = tuple(dict.fromkeys(answer["text"] for answer in row["answers"]))
                    found.append(Question(row["question"], answers, (own,), near))
    return _gathered(found, documents)


def _hotpotqa(rows: Iterable[Mapping[str, Any]]) -> Questions:
    """read_hotpotqa of qa.py: all ten paragraphs of a question are its own."""
    listed = [(row, [f"{title}\n{''.join(text)}" for title, text in row["context"]]) for row in rows]
    documents = sorted({document for _, own in listed for document in own})
    number = {document: index for index, document in enumerate(documents)}
    found = [
        Question(row["question"], (row["answer"],), tuple(dict.fromkeys(number[document] for document in own)))
        for row, own in listed
    ]
    return _gathered(found, documents)


def _gathered(found: list[Question], documents: list[str]) -> Questions:
    if not found or any(not answer for question in found for answer in question.answers or ("",)):
        raise ValueError("a question without an answer" if found else "no questions")
    told = [[question.text, question.answers, question.own, question.near] for question in found]
    digest = hashlib.sha256(json.dumps([told, documents]).encode()).hexdigest()
    return Questions(tuple(found), tuple(documents), digest)


def _file_rows(dataset: str, folder: str) -> list[Mapping[str, Any]]:
    """The rows of the official file."""
    names = FILES[dataset]
    file = next((path for name in names if (path := Path(folder) / name).is_file()), None)
    if file is None:
        raise refused("data", folder, f"allowed are {HUB}, or a folder with {' or '.join(names)}")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise refused("data", folder, f"{file.name} cannot be read as JSON ({error})") from error
    rows = content.get("data") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise refused("data", folder, f"{file.name} is not {dataset} in its official format")
    return rows


def _hub_rows(dataset: str) -> list[Mapping[str, Any]]:
    """The rows of the hub's table in the form of the official file."""
    table = locate(HUB, FILES[dataset][-1], TABLES[dataset]).path
    import pandas

    try:
        rows = pandas.read_parquet(table).to_dict("records")
    except (OSError, ValueError) as error:
        raise refused("data", HUB, f"{table} cannot be read ({error})") from error
    if dataset == "hotpotqa":
        return [
            {
                "question": row["question"],
                "answer": row["answer"],
                "context": list(zip(row["context"]["title"], row["context"]["sentences"], strict=True)),
            }
            for row in rows
        ]
    return _articles(rows)


def _articles(rows: Iterable[Mapping[Any, Any]]) -> list[Mapping[str, Any]]:
    """Rows of one question each as the articles and paragraphs they were taken from. Titles tell articles apart."""
    articles: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        texts = [{"text": text} for text in row["answers"]["text"]]
        asked = {"question": row["question"], "answers": texts, "is_impossible": not texts}
        articles.setdefault(row["title"], {}).setdefault(row["context"], []).append(asked)
    return [
        {"paragraphs": [{"context": context, "qas": qas} for context, qas in article.items()]}
        for article in articles.values()
    ]
