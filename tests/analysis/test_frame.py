from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.frame import load
from analysis.marks import warnings
from mage.errors import UserError
from runners.store.checksums import Checksums
from tests.analysis.synthetic import example, write_answers, write_cell


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_all_records_and_examples_are_read(sweep: Path) -> None:
    results = load([sweep])
    assert len(results.cells) == 12
    assert set(results.cells.status) == {"done", "out_of_memory"}
    assert len(results.examples) == 10 * 40
    assert len(results.recall) == 6 * 8 * 4
    assert results.unfinished == ("tiny-random-64",)
    dense = results.cells[results.cells.method == "dense"].index[0]
    assert results.examples[results.examples.cell == dense].exact.sum() == 39


def test_several_experiments_are_read_together(tmp_path: Path) -> None:
    write_answers(tmp_path / "a", "dense", None, lambda i: True)
    write_answers(tmp_path / "b", "mage", 64, lambda i: True)
    assert list(load([tmp_path / "a", tmp_path / "b"]).cells.method) == ["dense", "mage"]


def test_a_cell_in_two_folders_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_answers(tmp_path / name, "dense", None, lambda i: True)
    with pytest.raises(UserError, match="same cell stands in"):
        load([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"status": "fine"}, "status"),
        ({"labels": {"model": "tiny"}}, "labels.method"),
        ({"colour": "red"}, "colour"),
        ({"metrics": {"score": "high"}}, "metrics.score"),
        ({"examples": None}, "examples"),
        ({"examples": {"path": "../examples.jsonl", "count": 1, "sha256": ""}}, "examples.path"),
    ],
)
def test_an_invalid_record_is_refused_by_file_and_field(tmp_path: Path, changes: dict[str, object], field: str) -> None:
    path = write_answers(tmp_path, "dense", None, lambda i: True) / "record.json"
    edit(path, **changes)
    with pytest.raises(UserError) as error:
        load([tmp_path])
    assert str(path) in str(error.value)
    assert f"field {field}" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_record_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = write_answers(tmp_path, "dense", None, lambda i: True) / "record.json"
    path.write_text("{")
    with pytest.raises(UserError, match=r"record.json: field .the whole text."):
        load([tmp_path])


def test_a_record_that_is_not_what_was_written_is_refused(tmp_path: Path) -> None:
    cell = write_answers(tmp_path, "dense", None, lambda i: True)
    path = cell / "record.json"
    sum_up(cell)
    load([tmp_path])
    edit(path, metrics={"score": 0.5})
    with pytest.raises(UserError, match=r"record.json: it is not what was written: its checksum differs"):
        load([tmp_path])


def sum_up(cell: Path) -> None:
    """Write the checksums that a sweep would have written."""
    Checksums(cell).add("examples.jsonl", 0, (cell / "examples.jsonl").read_bytes().splitlines(keepends=True))
    Checksums(cell).seal("record.json", (cell / "record.json").read_bytes())


def test_checksums_that_lost_a_line_are_refused(tmp_path: Path) -> None:
    cell = write_answers(tmp_path, "dense", None, lambda i: True)
    sum_up(cell)
    lines = (cell / "checksums").read_text().splitlines(keepends=True)
    for number in (0, len(lines) - 1):
        (cell / "checksums").write_text("".join(lines[:number] + lines[number + 1 :]))
        with pytest.raises(UserError, match=r"checksums: it .*runners\.store check"):
            load([tmp_path])


@pytest.mark.parametrize(("text", "told"), [("nonsense\n", "line 1 is no checksum"), ("", "it holds no checksum")])
def test_a_damaged_file_of_checksums_is_named_and_not_the_record(tmp_path: Path, text: str, told: str) -> None:
    folder = tmp_path / "my results"
    cell = write_answers(folder, "dense", None, lambda i: True)
    (cell / "checksums").write_text(text)
    with pytest.raises(UserError) as error:
        load([folder])
    assert str(error.value) == (
        f"{cell / 'checksums'}: {told}. This names all that is damaged, and what to do: "
        f"python -m runners.store check '{folder}'"
    )


def test_a_changed_examples_file_is_refused(tmp_path: Path) -> None:
    path = write_answers(tmp_path, "dense", None, lambda i: i > 3) / "examples.jsonl"
    path.write_text(path.read_text().replace("cobalt", "amber"))
    with pytest.raises(UserError, match=r"examples.jsonl: its SHA-256 .* field examples.sha256"):
        load([tmp_path])


def test_a_wrong_count_is_refused(tmp_path: Path) -> None:
    path = write_answers(tmp_path, "dense", None, lambda i: True) / "record.json"
    edit(path, examples={**json.loads(path.read_text())["examples"], "count": 41})
    with pytest.raises(UserError, match=r"has 40 lines, field examples.count of .* says 41"):
        load([tmp_path])


def test_a_finished_cell_without_examples_is_refused(tmp_path: Path) -> None:
    write_cell(tmp_path, "dense", None, [])
    with pytest.raises(UserError, match=r"field examples\.count is 0"):
        load([tmp_path])


def test_a_missing_examples_file_is_refused(tmp_path: Path) -> None:
    (write_answers(tmp_path, "dense", None, lambda i: True) / "examples.jsonl").unlink()
    with pytest.raises(UserError, match=r"examples.jsonl is missing"):
        load([tmp_path])


def test_an_id_that_stands_twice_is_refused(tmp_path: Path) -> None:
    write_cell(tmp_path, "dense", None, [example(0, True), example(0, False)])
    with pytest.raises(UserError, match="'niah-0-00000' stands there twice"):
        load([tmp_path])


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no record.json"):
        load([tmp_path])
    with pytest.raises(UserError, match="not a folder"):
        load([tmp_path / "nothing"])


def test_a_sample_and_stretched_positions_are_part_of_the_tasks_name(tmp_path: Path) -> None:
    rows = [example(i, True) for i in range(4)]
    told = {"source": "sample", "extended": "YaRN x4"}
    write_cell(tmp_path, "dense", None, rows, task="longbench/qasper", told=told)
    write_cell(tmp_path, "dense", None, rows, task="needle")
    cells = load([tmp_path]).cells.set_index("member")
    assert cells.loc["qasper", ["task", "suite"]].tolist() == ["longbench/qasper (sample; YaRN x4)", "longbench"]
    assert cells.loc["needle", ["task", "suite"]].tolist() == ["needle", ""]


def test_random_weights_are_part_of_the_tasks_name(tmp_path: Path) -> None:
    rows = [example(i, True) for i in range(4)]
    write_cell(tmp_path, "dense", None, rows, config={"model": {"name": "tiny", "weights": "random"}})
    cells = load([tmp_path]).cells
    assert list(cells.task) == ["niah (random weights)"]
    assert warnings(cells) == ["Random weights: the scores mean nothing."]


def test_options_of_the_decoding_that_are_not_set_are_not_shown(tmp_path: Path) -> None:
    rows = [example(i, True) for i in range(4)]
    decoding = {"name": "static", "tokens_per_step": 1, "sub_block": None}
    write_cell(tmp_path, "dense", None, rows, config={"decoding": decoding})
    assert list(load([tmp_path]).cells.decoding_options) == ["tokens_per_step=1"]


def test_a_variant_and_a_mark_stand_in_one_bracket(tmp_path: Path) -> None:
    rows = [example(i, True) for i in range(4)]
    for data in ("sample", "hub"):
        config = {"task": {"name": "longbench/qasper", "data": data}}
        write_cell(tmp_path, "dense", None, rows, task="longbench/qasper", told={"source": data}, config=config)
    assert set(load([tmp_path]).cells.task) == {
        *("longbench/qasper (data=hub)", "longbench/qasper (data=sample; sample)"),
    }


def test_options_that_differ_become_part_of_the_name(tmp_path: Path) -> None:
    for commit in ("dense", "sparse"):
        write_answers(tmp_path, "mage", 64, lambda i: True, options={"commit": commit})
    write_answers(tmp_path, "quest", 64, lambda i: True)
    assert set(load([tmp_path]).cells.method) == {"mage (commit=dense)", "mage (commit=sparse)", "quest"}
