"""What accuracy is follows the task, and can be chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.accuracy_table import accuracy_table
from analysis.cells_table import cells_table
from analysis.comparison import compare, order_checks
from analysis.frame import load
from analysis.measure import EXACT_METRICS, Measure, measure_name, measure_of
from analysis.samples import samples_table
from tests.analysis.synthetic import example, write_cell


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A retrieval task with exact match, and a benchmark with F1, where no answer is exact."""
    for method, budget, loss in (("dense", None, 0.0), ("mage", 64, 0.1)):
        rows = [example(i, i % 2 == 0, budget=budget) for i in range(8)]
        write_cell(tmp_path, method, budget, rows)
        rows = [example(i, False, task="qa", budget=budget, score=0.6 - loss * (i > 3)) for i in range(8)]
        write_cell(tmp_path, method, budget, rows, task="longbench/qasper", told={"metric": "F1", "source": "hub"})
    return tmp_path


@pytest.mark.parametrize(
    ("chosen", "shown"),
    [
        (None, {"niah": ("50.0", "exact match"), "longbench/qasper": ("60.0", "F1")}),
        ("exact", {"niah": ("50.0", "exact match"), "longbench/qasper": ("0.0", "exact match")}),
        ("score", {"niah": ("75.0", "score"), "longbench/qasper": ("60.0", "F1")}),
    ],
)
def test_the_measure_follows_the_task_unless_one_is_chosen(
    mixed: Path, chosen: Measure | None, shown: dict[str, tuple[str, str]]
) -> None:
    for setting, points in compare(load([mixed])).settings():
        table = accuracy_table("a", setting, points, chosen)
        value, name = shown[setting[1]]
        assert table.cells.set_index("method").loc["dense", "64"] == value
        assert measure_name(points, chosen) == name and f": {name} in %" in table.caption


def test_tasks_of_several_metrics_have_no_one_name(mixed: Path) -> None:
    points = compare(load([mixed])).points
    assert (measure_of(points, None), measure_name(points, None)) == ("score", "score")


def test_the_metrics_of_exact_match_are_those_of_the_retrieval_tasks() -> None:
    assert {"share of the answer", "share of the asked values"} == EXACT_METRICS


def test_a_loss_of_score_is_marked_although_no_answer_was_exact(mixed: Path) -> None:
    (setting, points) = next(pair for pair in compare(load([mixed])).settings() if "qasper" in pair[0][1])
    assert accuracy_table("a", setting, points).cells.set_index("method").loc["mage", "64"].endswith("]†")


def test_the_table_of_cells_gives_the_difference_of_the_tasks_own_measure(mixed: Path) -> None:
    rows = cells_table(compare(load([mixed]))).cells.set_index(["task", "method"])
    assert rows.loc[("longbench/qasper", "mage"), "difference"].startswith("-5.0 [")
    assert rows.loc[("longbench/qasper", "mage"), "metric"] == "F1"
    assert rows.loc[("niah", "mage"), "difference"] == "0.0 [0.0, 0.0]"


def test_the_sample_shown_is_one_that_dense_scores_higher(mixed: Path) -> None:
    rows = samples_table(load([mixed])).cells.set_index(["task", "method"])
    assert rows.loc[("longbench/qasper", "mage"), "example"] == "qa-0-00004"
    assert rows.loc[("longbench/qasper", "mage"), "score"] == "50.0"


def test_the_order_of_oracle_and_dense_is_checked_on_the_score(tmp_path: Path) -> None:
    told = {"metric": "F1"}
    for method, budget, score in (("dense", None, 0.4), ("oracle", 64, 0.5)):
        rows = [example(i, False, budget=budget, score=score) for i in range(20)]
        write_cell(tmp_path, method, budget, rows, task="longbench/qasper", told=told)
    comparison = compare(load([tmp_path]))
    assert [check.holds for check in order_checks(comparison)] == [False]
    assert [check.holds for check in order_checks(comparison, "exact")] == [True]


def test_the_command_line_takes_the_choice(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(mixed), "--score", "exact"]) == 0
    output = capsys.readouterr().out
    assert output.count("exact match in %") == 2 and "F1 in %" not in output
