"""LongBench's tasks: every data set's example, the shipped sample, and the files of conf/."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import TaskError
from tasks.longbench.benchmark import LongBench, LongBenchE
from tasks.longbench.datasets import DATASETS, EXTENDED, new_tokens_of, prompt_of
from tasks.sources import SAMPLE
from tasks.task import Tokenizer

CONF = Path(__file__).parents[2] / "conf" / "task"
SHIPPED = ("hotpotqa", "multifieldqa_en", "passage_retrieval_en", "qmsum")
ANSWERS = {"passage_retrieval_en": "Paragraph 3", "passage_retrieval_zh": "段落3", "passage_count": "3"}


def row(dataset: str, number: int = 0, **changes: Any) -> dict[str, Any]:
    made = {
        "input": f"Why {{context}} {{0}} % number {number}?",
        "context": f"A {{input}} about\u2028{dataset} {{}}.\r\n",
        "answers": [ANSWERS.get(dataset, "Food")],
        "length": 3999 + number,
        "dataset": dataset,
        "language": "en",
        "all_classes": ["Food", "Drink"] if dataset in ("trec", "lsht") else None,
        "_id": f"{number:048x}",
    }
    return {**made, **changes}


def written(folder: Path, name: str, rows: list[dict[str, Any]]) -> str:
    lines = (json.dumps(made, ensure_ascii=False) for made in rows)
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return str(folder)


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_data_set_asks_in_the_published_words(dataset: str, tmp_path: Path, byte_tokenizer: Tokenizer) -> None:
    rows = [row(dataset, number) for number in range(3)]
    task = LongBench(dataset=dataset, data=written(tmp_path, f"{dataset}.jsonl", rows))
    examples = task.examples(byte_tokenizer, None, 0, 32)
    published = {made["_id"]: prompt_of(dataset).format(**made) for made in rows}
    assert {made.id: made.context + made.question for made in examples} == published
    assert all(made.context.endswith(rows[0]["context"]) for made in examples)
    assert {made.max_new_tokens for made in examples} == {new_tokens_of(dataset)}
    continued = dataset in ("trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p")
    assert {made.chat for made in examples} == {not continued}
    assert {made.stop_texts for made in examples} == {("\n",) if dataset == "samsum" else ()}
    assert task.score(examples[0], examples[0].references[0]).exact
    assert task.score(examples[0], "").value == 0


def test_the_published_files_are_shipped_unchanged() -> None:
    digests = {
        "dataset2prompt.json": "56d22ad4f382169c2b8a11ff4c982a4a1bea096c8152b0f0b85b64686b157c30",
        "dataset2maxlen.json": "72966b3c0933e214591637fb085798c5e687ebff4ddaab5d99bbc31120532022",
    }
    for name, digest in digests.items():
        assert hashlib.sha256(files("tasks.longbench").joinpath(name).read_bytes()).hexdigest() == digest
        assert set(json.loads(files("tasks.longbench").joinpath(name).read_text(encoding="utf-8"))) == set(DATASETS)
    assert "asconcisely" in prompt_of("narrativeqa")
    assert "\n\n Answer the question based on the above article" in prompt_of("qasper")
    assert prompt_of("passage_count").endswith("is: ")


@pytest.mark.parametrize("dataset", SHIPPED)
def test_the_sample_is_a_task_without_a_download(dataset: str, byte_tokenizer: Tokenizer) -> None:
    task = LongBench(dataset=dataset, data="sample")
    examples = task.examples(byte_tokenizer, None, 0, 32)
    assert 3 <= len({made.id for made in examples}) == len(examples) <= 4
    for made in examples:
        assert task.score(made, made.references[0]).exact
        assert 0 < made.labels["words"] < len(made.context)
    assert (task.source, len(task.content_hash)) == ("sample", 64)


def test_only_what_the_licences_allow_is_shipped() -> None:
    assert sorted(file.name for file in SAMPLE.iterdir()) == sorted(
        ["ATTRIBUTION.md", *(f"{dataset}.jsonl" for dataset in SHIPPED)]
    )
    assert sum(file.stat().st_size for file in SAMPLE.iterdir()) < 600_000


def test_examples_are_shuffled_by_the_seed_alone(tmp_path: Path, byte_tokenizer: Tokenizer) -> None:
    task = LongBench(dataset="qmsum", data=written(tmp_path, "qmsum.jsonl", [row("qmsum", i) for i in range(30)]))
    every = [made.id for made in task.examples(byte_tokenizer, None, 1, 32)]
    assert sorted(every) == [f"{number:048x}" for number in range(30)] != every
    assert [made.id for made in task.examples(byte_tokenizer, 7, 1, 4)] == every[:7]
    assert [made.id for made in task.examples(byte_tokenizer, 99, 1, 32)] == every
    assert [made.id for made in task.examples(byte_tokenizer, None, 2, 32)] != every


def test_rows_without_an_id_get_a_stable_one(tmp_path: Path, byte_tokenizer: Tokenizer) -> None:
    rows = [row("qmsum", number, _id=None) for number in (0, 1, 1)]
    first = LongBench(dataset="qmsum", data=written(tmp_path, "qmsum.jsonl", rows))
    ids = {made.question: made.id for made in first.examples(byte_tokenizer, None, 0, 32)}
    (tmp_path / "other").mkdir()
    second = LongBench(dataset="qmsum", data=written(tmp_path / "other", "qmsum.jsonl", [rows[1], rows[0]]))
    assert {made.question: made.id for made in second.examples(byte_tokenizer, None, 0, 32)}.items() & ids.items()
    repeated = sorted(made.id for made in first.examples(byte_tokenizer, None, 0, 32) if "number 1" in made.question)
    assert repeated[1] == f"{repeated[0]}-2"


def test_the_hash_follows_the_data_set_and_its_bytes(tmp_path: Path) -> None:
    def digest(rows: list[dict[str, Any]], dataset: str = "qmsum") -> str:
        return LongBench(dataset=dataset, data=written(tmp_path, f"{dataset}.jsonl", rows)).content_hash

    one, two = [row("qmsum", 1)], [row("qmsum", 2)]
    assert digest(one) == digest(one)
    assert len({digest(one), digest(two), digest(one, "samsum")}) == 3


@pytest.mark.parametrize(
    ("length", "bucket"), [(0, "0-4k"), (3999, "0-4k"), (4000, "4-8k"), (7999, "4-8k"), (8000, "8k+"), (20_000, "8k+")]
)
def test_extended_buckets(length: int, bucket: str, tmp_path: Path, byte_tokenizer: Tokenizer) -> None:
    data = written(tmp_path, "lcc_e.jsonl", [row("lcc", length=length)])
    [made] = LongBenchE(dataset="lcc", data=data).examples(byte_tokenizer, None, 0, 32)
    assert made.labels == {"words": length, "bucket": bucket}


def test_unknown_data_sets_are_refused() -> None:
    with pytest.raises(TaskError, match=r"task.dataset='hotpot': allowed are .* \(did you mean 'hotpotqa'\?\)"):
        LongBench(dataset="hotpot")
    with pytest.raises(TaskError, match=r"task.dataset='musique': allowed are 2wikimqa, gov_report"):
        LongBenchE(dataset="musique")


def test_classes_are_those_of_the_last_row(tmp_path: Path, byte_tokenizer: Tokenizer) -> None:
    rows = [row("trec"), row("trec", 1, all_classes=["Food", "Foo", "Drink", "Soup"])]
    task = LongBench(dataset="trec", data=written(tmp_path, "trec.jsonl", rows))
    made = task.examples(byte_tokenizer, None, 0, 32)[0]
    assert task.score(made, "\nFood Drink Soup\nno").value == pytest.approx(1 / 3)


def composed(choice: str) -> dict[str, Any]:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(config_dir=str(CONF.parent), version_base="1.3"):
        config = compose("config", [f"task={choice}"])
    return dict(OmegaConf.to_container(config.task))  # type: ignore[arg-type]


@pytest.mark.parametrize("choice", ["longbench/hotpotqa", "longbench/2wikimqa", "longbench_e/repobench-p"])
def test_a_file_of_conf_names_its_data_set(choice: str) -> None:
    kind = "LongBenchE" if choice.startswith("longbench_e") else "LongBench"
    assert composed(choice) == {
        "_target_": f"tasks.longbench.benchmark.{kind}",
        "name": choice,
        "dataset": choice.partition("/")[2],
        "data": "hub",
        "max_prompt_tokens": None,
    }


@pytest.mark.parametrize(("group", "names"), [("longbench", list(DATASETS)), ("longbench_e", list(EXTENDED))])
def test_every_data_set_has_a_file(group: str, names: list[str]) -> None:
    found = {file.stem: file.read_text(encoding="utf-8").splitlines() for file in (CONF / group).glob("*.yaml")}
    base = found.pop(f"_{group}")
    assert sorted(found) == sorted(names)
    for name, lines in found.items():
        assert lines[0].startswith("# ")
        assert lines[1:] == [
            "defaults:",
            f"  - {group}/_{group}@_here_",
            "",
            f"name: {group}/{name}",
            f"dataset: {name}",
        ]
    assert base[0].startswith("# ")
