"""What selections hold of the evidence: the figure's shares, and the table of right and wrong answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.comparison import compare
from analysis.evidence_table import evidence_table
from analysis.figures.evidence import common_steps, evidence_by_step, evidence_means, held_share, on_evidence
from analysis.figures.recall import recall_rows
from analysis.frame import load
from analysis.recall_sections import recall_sections
from analysis.table import Table
from runners.record import ExampleResult, RecallResult, RecallRow
from tests.analysis.synthetic import example, write_cell
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


def answer(index: int, right: bool, budget: int | None = 64, **changes: object) -> ExampleResult:
    return example(index, right, budget=budget, **changes)


def table_of(folder: Path) -> Table | None:
    results = load([folder])
    return evidence_table(recall_rows(results), compare(results))


def test_layers_weigh_by_their_attention_to_the_evidence(tmp_path: Path) -> None:
    observed(tmp_path)
    rows = on_evidence(recall_rows(load([tmp_path])))
    assert held_share(rows, ["id"])["niah-0-00001"] == pytest.approx(0.8 * 0.4 / 0.5)
    held, best = evidence_means(rows)
    assert best["mean"].tolist() == pytest.approx([1.0, 1.0])
    wanted = [0.8 * (0.8 if answered(i) else 0.6 + 0.01 * (i % 2)) for i in range(COUNT)]
    assert held["mean"].tolist() == pytest.approx([sum(wanted) / COUNT] * 2)
    assert (held.low < held["mean"]).all() and (held["mean"] < held.high).all()


def test_the_figure_is_drawn_where_there_is_evidence(tmp_path: Path) -> None:
    observed(tmp_path / "told")
    [path] = evidence_by_step(recall_rows(load([tmp_path / "told"])), tmp_path, "evidence")
    assert is_drawn(path)
    write_cell(tmp_path / "untold", "mage", 64, [result(i, None) for i in range(6)], runner="recall")
    results = load([tmp_path / "untold"])
    assert evidence_by_step(recall_rows(results), tmp_path, "none") == []
    [section] = recall_sections(results, None, tmp_path)
    assert len(section.figures) == 1


def test_steps_that_few_answers_take_are_not_drawn(tmp_path: Path) -> None:
    rows = [result(i, 0.8) for i in range(6)]
    short = [row.model_copy(update={"rows": row.rows[:2]}) for row in rows[:4]]  # step 2 alone
    write_cell(tmp_path, "mage", 64, short + rows[4:], runner="recall")
    assert common_steps(recall_rows(load([tmp_path]))) == [2]
    write_cell(tmp_path / "b", "mage", 64, short[:3] + rows[3:], runner="recall")
    assert common_steps(recall_rows(load([tmp_path / "b"]))) == [2, 3]


def test_right_and_wrong_answers_are_told_apart_where_dense_is_right(tmp_path: Path) -> None:
    observed(tmp_path)
    # Dense is wrong on the last four: two of these mage answers right.
    write_cell(tmp_path, "dense", None, [answer(i, i < COUNT - 4, None) for i in range(COUNT)])
    write_cell(tmp_path, "mage", 64, [answer(i, answered(i)) for i in range(COUNT)])
    write_cell(tmp_path, "mage", 128, [answer(i, True, 128) for i in range(COUNT)])
    table = table_of(tmp_path)
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
    assert list(cells)[:6] == ["task", "question", "decoding", "model", "method", "budget"]
    results = load([tmp_path])
    *_, section = recall_sections(results, compare(results), tmp_path)
    assert [own.cells.equals(table.cells) for own in section.tables] == [True]


def test_without_wrong_answers_there_is_no_difference(tmp_path: Path) -> None:
    observed(tmp_path)
    for method, budget in (("dense", None), ("mage", 64)):
        write_cell(tmp_path, method, budget, [answer(i, True, budget) for i in range(COUNT)])
    table = table_of(tmp_path)
    assert table is not None
    [cells] = table.cells.to_dict("records")
    assert (cells["right"], cells["wrong"], cells["held where wrong"], cells["difference"]) == ("24", "0", "—", "—")


@pytest.mark.parametrize("hole", ["dense", "mage"])
@pytest.mark.parametrize("how", ["absent", "failed", "failed seed"])
def test_nothing_is_compared_around_a_hole(tmp_path: Path, hole: str, how: str) -> None:
    observed(tmp_path)
    for method, budget in (("dense", None), ("mage", 64)):
        rows = [answer(i, answered(i), budget) for i in range(COUNT)]
        if method != hole or how == "failed seed":
            write_cell(tmp_path, method, budget, rows)
        if method == hole and how != "absent":
            write_cell(tmp_path, method, budget, [], status="error", error="x", seed=int(how == "failed seed"))
        elif how == "failed seed":
            write_cell(tmp_path, method, budget, [answer(i, True, budget, seed=1) for i in range(COUNT)], seed=1)
    assert table_of(tmp_path) is None


def test_what_seeds_answer_differently_is_left_out(tmp_path: Path) -> None:
    observed(tmp_path)
    for seed in (0, 1):
        write_cell(tmp_path, "dense", None, [answer(i, True, None) for i in range(COUNT)], seed=seed)
        rows = [answer(i, answered(i) and (seed == 0 or i > 6)) for i in range(COUNT)]
        write_cell(tmp_path, "mage", 64, rows, seed=seed)
    table = table_of(tmp_path)
    assert table is not None
    [row] = table.numbers.to_dict("records")
    assert (row["n_right"], row["n_wrong"]) == (12, 8), "right under one seed alone: 1, 2, 4, 5"


def test_the_interval_is_over_contexts_where_these_are_shared(tmp_path: Path) -> None:
    widths = []
    for name, size in (("alone", 1), ("shared", 2)):
        told = [result(i, 0.8 - 0.02 * (i // 4)) for i in range(COUNT)]
        told = [row.model_copy(update={"context": f"c{i // 2}"}) if size > 1 else row for i, row in enumerate(told)]
        write_cell(tmp_path / name, "mage", 64, told, runner="recall")
        write_cell(tmp_path / name, "dense", None, [answer(i, True, None) for i in range(COUNT)])
        write_cell(tmp_path / name, "mage", 64, [answer(i, i % 4 < 2) for i in range(COUNT)])
        table = table_of(tmp_path / name)
        assert table is not None
        widths.append(float(table.numbers.high.iloc[0] - table.numbers.low.iloc[0]))
    assert widths[1] > 1.2 * widths[0]
