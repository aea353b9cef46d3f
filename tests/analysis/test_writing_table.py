"""The table of ways of writing: who stands in it, in which order, against what."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from analysis.comparison import compare
from analysis.frame import load
from analysis.report import write_report
from analysis.table import Table
from analysis.writing_table import writing_table
from tests.analysis.synthetic import example, write_answers, write_cell

METRICS = {"forwards_per_block": 4.0, "tokens_per_forward": 3.0}


def decoding(name: str) -> dict[str, Any]:
    return {"name": name, "_target_": "mage.generation.decoding.Static", "tokens_per_step": 1}


def write(
    folder: Path,
    way: str,
    block: int,
    length: int,
    wrong: int,
    *,
    count: int = 20,
    told: bool = False,
    model: str = "bd",
) -> None:
    """A dense cell of which the first `wrong` answers are wrong, ten of its answers ended."""
    rows = [example(i, i >= wrong, budget=None, generated_tokens=11 if i < 10 else 12) for i in range(count)]
    if told:
        rows = [row.model_copy(update={"answer_nll": 6.0 * math.log(3), "answer_nll_tokens": 6}) for row in rows]
    config = {
        "model": {"name": model, "weights": "x", "block_size": block},
        "task": {"name": "niah", "lengths": [length]},
        "decoding": decoding(way),
    }
    write_cell(folder, "dense", None, rows, config=config, metrics=METRICS, told={"decoding": way, "model": model})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for length in (512, 1024):
        write(tmp_path, "threshold", 32, length, wrong=8)
        write(tmp_path, "static", 32, length, wrong=4)
        write(tmp_path, "static", 1, length, wrong=2)
    return tmp_path


def table_of(folder: Path) -> Table:
    table = writing_table(compare(load([folder])))
    assert table is not None
    return table


def test_rows_are_tasks_by_length_and_the_bases_own_writing_first(folder: Path) -> None:
    cells = table_of(folder).cells
    assert list(cells.written) == ["autoregressive", "static", "threshold"] * 2
    assert [("512" in task, "1024" in task) for task in cells.task] == [(True, False)] * 3 + [(False, True)] * 3


def test_accuracy_has_its_interval_and_its_paired_difference(folder: Path) -> None:
    table = table_of(folder)
    numbers = table.numbers
    assert list(numbers.accuracy[:3]) == [0.9, 0.8, 0.6]
    assert list(numbers.difference[1:3]) == pytest.approx([-0.1, -0.3]) and math.isnan(numbers.difference[0])
    assert table.cells["to autoregressive"][0] == "—"
    assert table.cells["to autoregressive"][2].startswith("-30.0 [-50")
    assert table.cells.accuracy[1].startswith("80.0 [") and numbers.accuracy_low[1] < 0.8 < numbers.accuracy_high[1]


def test_cost_and_ending_are_told(folder: Path) -> None:
    row = table_of(folder).cells.iloc[0]
    assert (row["forwards a block"], row["tokens a forward"]) == ("4.00", "3.00")
    assert (row["tokens an answer"], row.ended) == ("11.5", "50"), "12 tokens were decided, the stop token counted"


def test_perplexity_is_shown_where_it_was_measured(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert "perplexity" not in table_of(folder).cells
    other = tmp_path_factory.mktemp("told")
    write(other, "static", 32, 512, 1, told=True)
    write(other, "threshold", 32, 512, 1, told=False)
    table = table_of(other)
    assert list(table.cells.perplexity) == ["3.00", "—"] and "Perplexity" in table.caption
    assert list(table.cells["to autoregressive"]) == ["—", "—"], "no autoregressive cell stands beside them"


def test_two_models_are_no_two_ways(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("models")
    write(other, "static", 32, 512, 1)
    write(other, "threshold", 32, 512, 1, model="sdar")
    assert writing_table(compare(load([other]))) is None
    assert "model" not in table_of(folder).cells


def test_the_autoregressive_cell_of_another_model_is_not_compared_with(tmp_path: Path) -> None:
    write(tmp_path, "static", 1, 512, 1)
    write(tmp_path, "threshold", 32, 512, 2)
    write(tmp_path, "static", 32, 512, 1, model="sdar")
    write(tmp_path, "threshold", 32, 512, 2, model="sdar")
    cells = table_of(tmp_path).cells
    assert list((cells["to autoregressive"] != "—")[cells.written != "autoregressive"]).count(True) == 1


def test_cells_of_other_examples_are_not_compared(tmp_path: Path) -> None:
    write(tmp_path, "static", 1, 512, 2)
    write(tmp_path, "threshold", 32, 512, 2, count=15)
    assert list(table_of(tmp_path).cells["to autoregressive"]) == ["—", "—"]


def test_one_way_makes_no_table(sweep: Path, folder: Path) -> None:
    assert writing_table(compare(load([sweep]))) is None
    write_answers(folder, "dense", None, lambda i: True, task="other")
    assert "other" not in set(table_of(folder).cells.task)


def test_the_report_has_the_section_and_none_by_budget_beside_it(folder: Path, tmp_path: Path) -> None:
    titles = [section.title for section in write_report(load([folder]), "t", None, tmp_path / "report")]
    assert "Ways of writing" in titles
    assert not any(title.startswith("Accuracy by KV budget") for title in titles)
    assert (tmp_path / "report" / "tables" / "writing.csv").exists()
