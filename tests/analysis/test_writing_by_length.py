"""Ways of writing by length: which lengths have a column, and what stands there."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.comparison import compare
from analysis.frame import load
from analysis.report import write_report
from analysis.table import Table
from analysis.writing_by_length import writing_by_length
from tests.analysis.synthetic import example, write_cell
from tests.analysis.test_writing_table import decoding


def write(folder: Path, way: str, wrong: dict[int, int], counts: dict[int, int], *, task: str = "niah") -> None:
    """A dense cell with `counts` examples of each length, of which the first `wrong` are wrong."""
    places = [(length, i >= wrong.get(length, 0)) for length, count in counts.items() for i in range(count)]
    rows = [
        example(i, right, budget=None, task=task, labels={"length": length}) for i, (length, right) in enumerate(places)
    ]
    write_cell(folder, "dense", None, rows, task=task, config={"decoding": decoding(way)}, told={"decoding": way})


def table_of(folder: Path) -> Table | None:
    return writing_by_length(compare(load([folder])))


def test_each_length_has_its_own_accuracy(tmp_path: Path) -> None:
    counts = {4096: 20, 2048: 25, 8192: 19}
    write(tmp_path, "static", {2048: 5, 4096: 10}, counts)
    write(tmp_path, "threshold", {4096: 20}, counts)
    table = table_of(tmp_path)
    assert table is not None
    assert list(table.cells.columns) == ["task", "written", "2048", "4096"], "of 8192 there are too few"
    assert [text.partition(" [")[0] for text in table.cells["2048"]] == ["80.0", "100.0"]
    assert [text.partition(" [")[0] for text in table.cells["4096"]] == ["50.0", "0.0"]
    assert "of 20 to 25 examples each" in table.caption
    numbers = table.numbers.set_index(["written", "length"])
    static = numbers.loc[("static", 2048)]
    assert static.accuracy == pytest.approx(0.8) and static.n == 25
    assert 0.55 < static.accuracy_low < 0.8 < static.accuracy_high < 1.0


def test_a_task_of_one_length_stays_out(tmp_path: Path) -> None:
    for way in ("static", "threshold"):
        write(tmp_path, way, {}, {2048: 40}, task="other")
    assert table_of(tmp_path) is None
    for way in ("static", "threshold"):
        write(tmp_path, way, {}, {2048: 20, 4096: 20})
    table = table_of(tmp_path)
    assert table is not None and set(table.cells.task) == {"niah"}


def test_the_report_has_it_below_the_ways_of_writing(tmp_path: Path) -> None:
    for way in ("static", "threshold"):
        write(tmp_path / "ways", way, {}, {2048: 20, 4096: 20})
    sections = write_report(load([tmp_path / "ways"]), "t", None, tmp_path / "report")
    names = {section.title: [table.name for table in section.tables] for section in sections}
    assert names["Ways of writing"] == ["writing", "writing-by-length"]
