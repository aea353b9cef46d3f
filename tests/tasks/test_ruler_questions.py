"""Where RULER's qa tasks get their questions, and what they put around them."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pandas
import pytest

from tasks import sources
from tasks.errors import TaskError
from tasks.ruler.questions import questions
from tests.tasks.prose_tokenizers import Words
from tests.tasks.ruler_tasks import made, shown, solve, write_hotpotqa, write_squad

WRITERS = {"squad": write_squad, "hotpotqa": write_hotpotqa}
NAMES = {"squad": "qa_1", "hotpotqa": "qa_2"}
FILES = {"squad": "dev-v2.0.json", "hotpotqa": "hotpot_dev_distractor_v1.json"}
both = pytest.mark.parametrize("dataset", WRITERS)


@pytest.fixture
def fresh_hub() -> Any:
    """What earlier tests downloaded is forgotten, and what this one downloads too."""
    for cache in (sources._download, questions):
        cache.cache_clear()
    yield
    for cache in (sources._download, questions):
        cache.cache_clear()


def table(dataset: str, folder: Path) -> Path:
    """The rows of the official file as the hub's table has them."""
    content = json.loads((folder / FILES[dataset]).read_text())
    if dataset == "squad":
        rows = [
            {
                "id": asked["id"],
                "title": article["title"],
                "context": paragraph["context"],
                "question": asked["question"],
                "answers": {
                    "text": [answer["text"] for answer in asked["answers"]],
                    "answer_start": [answer["answer_start"] for answer in asked["answers"]],
                },
            }
            for article in content["data"]
            for paragraph in article["paragraphs"]
            for asked in paragraph["qas"]
        ]
    else:
        rows = [
            {
                "id": row["_id"],
                "question": row["question"],
                "answer": row["answer"],
                "context": {
                    "title": [title for title, _ in row["context"]],
                    "sentences": [sentences for _, sentences in row["context"]],
                },
            }
            for row in content
        ]
    path = folder / "table.parquet"
    pandas.DataFrame(rows).to_parquet(path)
    return path


@both
def test_hub_and_folder_give_the_same_questions(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_hub: None
) -> None:
    path = table(dataset, WRITERS[dataset](tmp_path))
    asked = []

    def download(repository: str, name: str, **options: object) -> str:
        asked.append((repository, name, options))
        return str(path)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: SimpleNamespace(sha="0" * 40))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    hub, folder = made(NAMES[dataset], lengths=1024), made(NAMES[dataset], lengths=1024, data=str(tmp_path))
    assert (hub.source, folder.source) == ("hub", "folder")
    assert hub.examples(Words(), 3, 0, 32) == folder.examples(Words(), 3, 0, 32)
    repository = {"squad": "rajpurkar/squad_v2", "hotpotqa": "hotpotqa/hotpot_qa"}[dataset]
    options = {"repo_type": "dataset", "revision": "0" * 40}
    assert [(name, given) for name, _, given in asked] == [(repository, options)]


@both
def test_no_network_is_one_line(dataset: str, monkeypatch: pytest.MonkeyPatch, fresh_hub: None) -> None:
    def download(*_: object, **__: object) -> str:
        raise OSError("Name or service not known\nand more")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", download)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(TaskError, match=r"task\.data='hub': .* cannot be had.*Name or service not known") as error:
        made(NAMES[dataset]).content_hash  # noqa: B018
    assert "\n" not in str(error.value)
    assert FILES[dataset] in str(error.value)


def test_squad_asks_what_has_an_answer(tmp_path: Path) -> None:
    known = questions("squad", str(write_squad(tmp_path, articles=2, paragraphs=3)))
    assert len(known.documents) == len(known.questions) == 6
    assert list(known.documents) == sorted(known.documents)
    for question in known.questions:
        number = re.findall(r"\d+", question.text)[0]
        assert [known.documents[own].split(".")[0] for own in question.own] == [
            f"The code of entry {number} is {question.answers[0]}"
        ]
        assert len(question.near) == 2 and not set(question.near) & set(question.own)
        assert question.answers[1] == question.answers[0].upper()


def test_hotpotqa_has_ten_documents_a_question(tmp_path: Path) -> None:
    known = questions("hotpotqa", str(write_hotpotqa(tmp_path, count=3)))
    assert len(known.documents) == 30
    for number, question in enumerate(known.questions):
        assert len(question.own) == 10
        assert known.documents[question.own[2]].startswith(
            f"title {number} 2\nThe code of entry {number} is {question.answers[0]}. Nothing"
        )


@both
def test_documents_are_numbered_and_stand_once(dataset: str, tmp_path: Path) -> None:
    asked = made(NAMES[dataset], lengths=1024, data=str(WRITERS[dataset](tmp_path)))
    for example in asked.examples(Words(), 5, 0, 32):
        listed = example.context.split("given documents.\n\n", 1)[1]
        documents = re.findall(r"Document (\d+):\n(.+?)(?=\n\nDocument |$)", listed, re.DOTALL)
        assert [int(number) for number, _ in documents] == list(range(1, len(documents) + 1))
        assert set(Counter(text for _, text in documents).values()) == {1}
        assert listed.count(f" is {example.references[0]}.") == 1


def test_the_article_comes_before_other_articles(tmp_path: Path) -> None:
    asked = made("qa_1", lengths=1024, data=str(write_squad(tmp_path, articles=20, paragraphs=3)))
    first = 0
    for example in asked.examples(Words(), 12, 0, 32):
        numbers = [int(number) for number in re.findall(r"code of entry (\d+) is", example.context)]
        wanted = int(re.findall(r"entry (\d+)\?", example.question)[0])
        assert set(numbers) >= set(range(wanted // 3 * 3, wanted // 3 * 3 + 3))
        assert len(numbers) < 40
        first += numbers[0] == wanted
    assert first < 6  # they are shuffled


@pytest.mark.parametrize("length", range(150, 700, 30))
def test_a_question_keeps_all_of_its_own_documents(length: int, tmp_path: Path) -> None:
    asked = made("qa_2", lengths=length, data=str(write_hotpotqa(tmp_path)))
    try:
        examples = asked.examples(Words(), 3, 0, 4)
    except TaskError:
        assert length < 350
        return
    for example in examples:
        number = re.findall(r"entry (\d+)\?", example.question)[0]
        assert len(re.findall(rf"^title {number} \d$", example.context, re.MULTILINE)) == 10


@both
def test_few_documents_are_repeated(dataset: str, tmp_path: Path) -> None:
    size = {"squad": {"articles": 1, "paragraphs": 2}, "hotpotqa": {"count": 1}}[dataset]
    asked = made(NAMES[dataset], lengths=2048, data=str(WRITERS[dataset](tmp_path, **size)))
    example = asked.examples(Words(), 1, 0, 32)[0]
    assert len(asked.prompt(example, Words(), 32, 2048).tokens) > 1800
    assert example.context.count(example.references[0]) > 2
    assert asked.score(example, solve(NAMES[dataset], example)).exact


def test_a_question_that_does_not_fit_is_passed_over(tmp_path: Path) -> None:
    file = write_squad(tmp_path) / "dev-v2.0.json"
    content = json.loads(file.read_text())
    long = content["data"][0]["paragraphs"][3]
    long["context"] += " And on." * 600
    file.write_text(json.dumps(content))
    short = made("qa_1", lengths=1024, data=str(tmp_path)).examples(Words(), None, 0, 32)
    assert len(short) == 39
    assert all(long["qas"][0]["question"] not in shown(example) for example in short)
    assert len(made("qa_1", lengths=4096, data=str(tmp_path)).examples(Words(), None, 0, 32)) == 40


def test_many_questions_may_not_fit_while_others_do(tmp_path: Path) -> None:
    file = write_squad(tmp_path, articles=120, paragraphs=2) / "dev-v2.0.json"
    content = json.loads(file.read_text())
    for article in content["data"]:
        article["paragraphs"][0]["context"] += " And on." * 300
    file.write_text(json.dumps(content))
    assert len(made("qa_1", lengths=512, data=str(tmp_path)).examples(Words(), None, 0, 32)) == 120
    with pytest.raises(TaskError, match=r"task\.lengths=96: the shortest prompt and its answer take \d+ tokens"):
        made("qa_1", lengths=96, data=str(tmp_path)).examples(Words(), None, 0, 32)


def test_questions_come_in_another_order_with_another_seed(tmp_path: Path) -> None:
    asked = made("qa_1", lengths=1024, data=str(write_squad(tmp_path)))
    one, two = ([example.question for example in asked.examples(Words(), None, seed, 32)] for seed in (0, 1))
    assert one != two
    assert set(one) == set(two)
    assert len(set(one)) == 40


@both
@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, r"allowed are hub, or a folder with "),
        ("{", r"cannot be read as JSON"),
        ("3", r"official format"),
        ('{"data": []}', r"official format \(ValueError\('no questions'\)\)"),
        ('[{"question": "x"}]', r"official format \(KeyError\("),
        ('{"data": [{"paragraphs": 3}]}', r"official format \("),
    ],
    ids=str,
)
def test_a_folder_that_holds_something_else_is_refused(
    dataset: str, content: str | None, line: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / FILES[dataset]).write_text(content)
    with pytest.raises(TaskError, match=r"task\.data=.*" + line) as error:
        made(NAMES[dataset], data=str(tmp_path)).examples(Words(), 1, 0, 32)
    assert "\n" not in str(error.value)
