"""Lost in the Middle's key-value retrieval: prompt, places, files of the original and scores."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.errors import TaskError
from tasks.json_retrieval import JsonRetrieval
from tasks.task import Example
from tests.tasks.prose_tokenizers import Bytes, Words

UUID_4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
RECORDS = [
    {"ordered_kv_records": [["a1", "v1"], ["b2", "v2"], ["c3", "v3"]], "key": "b2", "value": "v2"},
    {"ordered_kv_records": [["d4", "v4"], ["e5", "v5"], ["f6", "V6"]], "key": "f6", "value": "V6"},
]


def written(path: Path, records: list[Any]) -> str:
    """A file of records, compressed where its name says so."""
    raw = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return str(path)


def parsed(example: Example) -> dict[str, str]:
    """The object that the context shows."""
    return json.loads(example.context.split("JSON data:\n", 1)[1])


def asked_key(example: Example) -> str:
    return re.findall(r'^\n\nKey: "(.*)"\nCorresponding value:$', example.question)[0]


def test_the_prompt_is_the_published_one(tmp_path: Path) -> None:
    """As tests/test_prompting.py of the reference repository shows it."""
    rows = [["test key1", "test value1"], ["test key2", "test value2"], ["test key3", "test value3"]]
    record = {"ordered_kv_records": rows, "key": "test key2", "value": "test value2"}
    task = JsonRetrieval(data=written(tmp_path / "a.jsonl", [record]), pairs=3, depths=0.5)
    example = task.examples(Bytes(), None, 0, 4)[0]
    assert example.context + example.question == "\n".join(
        [
            "Extract the value corresponding to the specified key in the JSON object below.",
            "",
            "JSON data:",
            '{"test key1": "test value1",',
            ' "test key2": "test value2",',
            ' "test key3": "test value3"}',
            "",
            'Key: "test key2"',
            "Corresponding value:",
        ]
    )
    assert (example.chat, example.max_new_tokens, example.references) == (True, 100, ("test value2",))


@pytest.mark.parametrize("pairs", [2, 75, 140])
def test_a_reader_of_the_object_scores_full_marks(pairs: int) -> None:
    task = JsonRetrieval(pairs=pairs)
    for example in task.examples(Words(), 10, 0, 4):
        shown = parsed(example)
        assert len(shown) == pairs
        answer = shown[asked_key(example)]
        assert all(re.fullmatch(UUID_4, word) for row in shown.items() for word in row)
        assert len({word for row in shown.items() for word in row}) == 2 * pairs
        for right in (answer, answer.upper(), f'"{answer}".', f"The value is {answer}"):
            score = task.score(example, right)
            assert (score.value, score.exact) == (1.0, True)
        for wrong in ("", answer[:-1], asked_key(example), "x" * 100_000, "</s>" * 9, "{", "\0", "\ud800"):
            score = task.score(example, wrong)
            assert (score.value, score.exact) == (0.0, False)


@pytest.mark.parametrize(("depth", "place"), [(0.0, 0), (0.25, 18), (0.32, 24), (0.66, 49), (1.0, 74)])
def test_the_asked_pair_stands_at_its_place(depth: float, place: int) -> None:
    for example in JsonRetrieval(depths=depth).examples(Words(), 3, 0, 4):
        assert list(parsed(example)).index(asked_key(example)) == place
        assert example.labels["depth"] == depth


def test_random_places_without_depths() -> None:
    examples = JsonRetrieval(depths=None).examples(Words(), 60, 0, 4)
    places = {list(parsed(example)).index(asked_key(example)) for example in examples}
    assert len(places) > 25
    assert all("depth" not in example.labels for example in examples)


def test_the_label_length_is_the_contexts_to_a_hundredth() -> None:
    tokenizer = Bytes()
    for example in JsonRetrieval(pairs=[20, 75]).examples(tokenizer, 20, 0, 4):
        assert len(tokenizer.encode(example.context)) == example.labels["length"]
    lengths = [example.labels["length"] for example in JsonRetrieval(pairs=[75, 20]).examples(tokenizer, 20, 0, 4)]
    assert len(set(lengths)) == 2
    assert lengths[0] > lengths[5]


def test_example_i_does_not_depend_on_the_count() -> None:
    task = JsonRetrieval(pairs=[5, 8], depths=[0.0, 1.0])
    few, many = task.examples(Words(), 3, 5, 4), task.examples(Words(), 9, 5, 32)
    assert few == many[:3]
    assert len({example.id for example in many}) == len({example.context for example in many}) == 9
    assert task.examples(Words(), None, 5, 4) == many[:4]
    assert task.examples(Words(), 1, 6, 4)[0].context != many[0].context


@pytest.mark.parametrize("name", ["records.jsonl", "records.jsonl.gz"])
def test_each_record_of_a_file_is_asked_at_each_depth(name: str, tmp_path: Path) -> None:
    task = JsonRetrieval(data=written(tmp_path / name, RECORDS), pairs=3, depths=[0.0, 1.0])
    examples = task.examples(Words(), None, 0, 4)
    assert len(examples) == 4
    assert {example.id.rsplit("-r", 1)[1] for example in examples} == {"00000-d0", "00000-d1", "00001-d0", "00001-d1"}
    for example in examples:
        shown, key = parsed(example), asked_key(example)
        record = next(record for record in RECORDS if record["key"] == key)
        rest = [row for row in record["ordered_kv_records"] if row[0] != key]
        assert [list(row) for row in shown.items() if row[0] != key] == rest
        assert list(shown).index(key) == 2 * float(example.labels["depth"])
        assert task.score(example, shown[key]).exact
    assert task.source == "file"
    orders = {tuple(e.id for e in task.examples(Words(), None, seed, 4)) for seed in range(8)}
    assert len(orders) == 2  # two records, shuffled by the seed
    assert task.examples(Words(), 2, 0, 4) == examples[:2]


def test_without_depths_a_file_keeps_its_places(tmp_path: Path) -> None:
    task = JsonRetrieval(data=written(tmp_path / "a.jsonl", RECORDS), pairs=3, depths=None)
    examples = task.examples(Words(), None, 0, 4)
    assert len(examples) == 2
    for example in examples:
        record = next(record for record in RECORDS if record["key"] == asked_key(example))
        assert [list(row) for row in parsed(example).items()] == record["ordered_kv_records"]


def test_the_hash_follows_the_content(tmp_path: Path) -> None:
    one, same = (written(tmp_path / name, RECORDS) for name in ("one.jsonl", "two.jsonl.gz"))
    other = written(tmp_path / "three.jsonl", RECORDS[:1])
    tasks = [JsonRetrieval(), JsonRetrieval(pairs=140), JsonRetrieval(depths=0.5), JsonRetrieval(chat=False)]
    tasks += [JsonRetrieval(data=one, pairs=3), JsonRetrieval(data=other, pairs=3)]
    assert len({task.content_hash for task in tasks}) == len(tasks)
    assert tasks[-2].content_hash == JsonRetrieval(data=same, pairs=3).content_hash
    assert JsonRetrieval(pairs=75).content_hash == JsonRetrieval(pairs=[75]).content_hash


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ({"pairs": 1}, "task.pairs=1: allowed are whole numbers from 2"),
        ({"pairs": []}, "task.pairs=[]: at least one is needed"),
        ({"data": ""}, "task.data='': allowed are generated or a"),
        ({"data": "x.jsonl", "pairs": [75, 140]}, "task.pairs=[75, 140]: allowed beside a file is one number"),
        ({"depths": -0.1}, "task.depths=-0.1: allowed are numbers from 0 to 1"),
    ],
)
def test_a_wrong_setting_is_one_line(setting: dict[str, Any], line: str) -> None:
    with pytest.raises(TaskError) as caught:
        JsonRetrieval(**setting)
    assert line in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b"", "the file holds no records"),
        (b"\x1f\x8bnot gzip", "the file cannot be read"),
        (b"\xff\xfe", "the file cannot be read"),
        (b"{}\n", "line 1: no record of ordered_kv_records, key and value"),
        (b"\nnonsense\n", "line 2: no record of"),
        (b"[]", "line 1: no record of"),
        (
            b'{"ordered_kv_records": [["a", 1], ["b", "2"]], "key": "b", "value": "2"}',
            "line 1: a key or a value",
        ),
        (b'{"ordered_kv_records": [["a"], ["b", "2"]], "key": "b", "value": "2"}', "line 1: no record of"),
        (
            b'{"ordered_kv_records": [["a", "1"], ["b", "2"]], "key": "b", "value": "3"}',
            "line 1: the asked pair is",
        ),
        (b'{"ordered_kv_records": [["a", "1"], ["a", "2"]], "key": "a", "value": "2"}', "keys occur twice"),
        (b'{"ordered_kv_records": [["a", "1"], ["b", "2"]], "key": "b", "value": "2"}', "task.pairs=3: line 1 of"),
    ],
)
def test_a_broken_file_is_one_line(raw: bytes, line: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(raw)
    task = JsonRetrieval(data=str(tmp_path / "a.jsonl"), pairs=3)
    with pytest.raises(TaskError) as caught:
        _ = task.content_hash
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(TaskError, match="there is no such file; allowed are generated or a"):
        JsonRetrieval(data="no/such.jsonl").examples(Words(), 1, 0, 4)


def test_the_prompt_of_a_model(tmp_path: Path) -> None:
    task = JsonRetrieval(pairs=4)
    for tokenizer in (Words(), Bytes()):
        for example in task.examples(tokenizer, 3, 0, 4):
            prompt = task.prompt(example, tokenizer, 4, 1024)
            text = tokenizer.decode(prompt.tokens)
            assert prompt.truncated_tokens == 0
            assert text.split() == f"<user> {example.context}{example.question} <assistant>".split()


def test_the_config_is_the_defaults() -> None:
    text = (Path(__file__).parents[2] / "conf" / "task" / "kv_json.yaml").read_text()
    assert text.startswith("# ")
    config = yaml.safe_load(text)
    assert config.pop("_target_") == "tasks.json_retrieval.JsonRetrieval"
    task = JsonRetrieval(**config)
    assert task.content_hash == JsonRetrieval().content_hash
    assert task.name == "kv_json"
