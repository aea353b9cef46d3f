"""What selections hold of the evidence: the figure's shares, and the table of right and wrong answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.evidence_table import evidence_table
from analysis.figures.evidence import evidence_by_step, held_share, on_evidence
from analysis.figures.recall import recall_rows
from analysis.frame import load
from analysis.recall_sections import recall_sections
from runners.record import RecallResult, RecallRow
from tests.analysis.synthetic import example, recall_result, write_cell
from tests.analysis.test_figures import is_drawn

COUNT = 24


def answered(index: int) -> bool:
    return index % 3 != 0


def result(index: int, held: float | None, mass: tuple[float, ...] = (0.4, 0.1)) -> RecallResult:
    """Two layers, the first with more attention on the evidence; the second holds none of it."""
    rows = []
    for step in (2, 3):
        for layer, own in enumerate(mass):
            told = {} if held is None else {"evidence_mass": own, "evidence_oracle": own}
            if held is not None:
                told["evidence_held"] = own * held if layer == 0 else 0.0
            of_set = {"recall": 0.9, "mass_captured": 0.9, "oracle_mass": 0.8}
            rows.append(RecallRow(block=1, step=step, layer=layer, **of_set, **told))
    return RecallResult(id=f"niah-0-{index:05d}", prefix_tokens=1024, budget_tokens=64, rows=rows)


def observed(folder: Path, budget: int = 64) -> None:
    rows = [result(i, 0.8 if answered(i) else 0.6 + 0.01 * (i % 2)) for i in range(COUNT)]
    write_cell(folder, "mage", budget, rows, runner="recall")


def test_heads_weigh_by_their_attention_to_the_evidence(tmp_path: Path) -> None:
    observed(tmp_path)
    rows = on_evidence(recall_rows(load([tmp_path])))
    shares = held_share(rows, ["id"])
    assert shares["niah-0-00001"] == pytest.approx(0.8 * 0.4 / 0.5)
    assert held_share(rows, ["step"], "evidence_oracle").tolist() == pytest.approx([1.0, 1.0])


def test_the_figure_is_drawn_where_there_is_evidence(tmp_path: Path) -> None:
    observed(tmp_path / "told")
    [path] = evidence_by_step(recall_rows(load([tmp_path / "told"])), tmp_path, "evidence")
    assert is_drawn(path)
    write_cell(tmp_path / "untold", "mage", 64, [result(i, None) for i in range(6)], runner="recall")
    results = load([tmp_path / "untold"])
    assert evidence_by_step(recall_rows(results), tmp_path, "none") == []
    assert evidence_table(results) is None
    [section] = recall_sections(results, tmp_path)
    assert len(section.figures) == 1


def test_records_from_before_there_was_evidence_are_read(tmp_path: Path) -> None:
    cell = write_cell(tmp_path, "mage", 64, [recall_result(i) for i in range(6)], runner="recall")
    assert "evidence_mass" in (cell / "examples.jsonl").read_text()
    rows = recall_rows(load([tmp_path]))
    assert on_evidence(rows).empty
    assert on_evidence(rows.drop(columns=["evidence_mass", "evidence_held", "evidence_oracle"])).empty


def test_right_and_wrong_answers_are_told_apart_where_dense_is_right(tmp_path: Path) -> None:
    observed(tmp_path)
    assert evidence_table(load([tmp_path])) is None, "nothing was evaluated"
    # Dense is wrong on the last four: two of these mage answers right.
    write_cell(tmp_path, "dense", None, [example(i, i < COUNT - 4, budget=None) for i in range(COUNT)])
    write_cell(tmp_path, "mage", 64, [example(i, answered(i)) for i in range(COUNT)])
    write_cell(tmp_path, "mage", 128, [example(i, True, budget=128) for i in range(COUNT)])
    table = evidence_table(load([tmp_path]))
    assert table is not None
    [row] = table.numbers.to_dict("records")
    assert (row["method"], row["budget"], row["n_right"], row["n_wrong"]) == ("mage", 64, 13, 7)
    assert row["right"] == pytest.approx(0.64)
    wrong = [0.8 * (0.6 + 0.01 * (i % 2)) for i in range(COUNT - 4) if not answered(i)]
    assert row["wrong"] == pytest.approx(sum(wrong) / len(wrong))
    assert row["low"] < row["difference"] < row["high"]
    assert row["difference"] == pytest.approx(row["right"] - row["wrong"])
    [cells] = table.cells.to_dict("records")
    assert cells["held where right"] == "64.0" and cells["difference"].startswith("+15.")


def test_without_wrong_answers_there_is_no_difference(tmp_path: Path) -> None:
    observed(tmp_path)
    write_cell(tmp_path, "mage", 64, [example(i, True) for i in range(COUNT)])
    table = evidence_table(load([tmp_path]))
    assert table is not None
    [cells] = table.cells.to_dict("records")
    assert (cells["right"], cells["wrong"], cells["held where wrong"], cells["difference"]) == ("24", "0", "—", "—")
