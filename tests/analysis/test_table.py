from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest

from analysis.accuracy_table import accuracy_table
from analysis.cells_table import cells_table
from analysis.comparison import compare
from analysis.escaping import latex, markdown, visible
from analysis.frame import load
from analysis.table import Table
from tests.analysis.conftest import MARKUP
from tests.analysis.synthetic import ENVIRONMENT, example, write_answers, write_cell


@pytest.fixture(scope="module")
def table(sweep: Path) -> Table:
    [(setting, points)] = compare(load([sweep])).settings()
    return accuracy_table("accuracy", setting, points, "exact")


def row(table: Table, method: str) -> dict[str, str]:
    return table.cells.set_index("method").loc[method].to_dict()


def test_rows_are_methods_and_columns_budgets(table: Table) -> None:
    assert list(table.cells.columns) == ["method", "32", "64", "128"]
    assert list(table.cells.method) == ["dense", "oracle", "mage", "quest", "random"]


def test_dense_stands_under_every_budget(table: Table) -> None:
    assert row(table, "dense") == {"32": "97.5", "64": "97.5", "128": "97.5"}


def test_cells_carry_the_interval_and_the_mark(table: Table) -> None:
    assert row(table, "mage")["32"] == "97.5 [0.0, 0.0]"
    assert row(table, "quest")["32"].startswith("25.0 [-8")
    assert row(table, "quest")["32"].endswith("]†")


def test_the_mark_needs_more_than_a_few_discordant_pairs(tmp_path: Path) -> None:
    write_answers(tmp_path, "dense", None, lambda i: True)
    write_answers(tmp_path, "mage", 64, lambda i: i > 4)  # five lost: p = 2 / 32
    write_answers(tmp_path, "mage", 32, lambda i: i > 5)  # six lost: p = 2 / 64
    [(setting, points)] = compare(load([tmp_path])).settings()
    cells = row(accuracy_table("a", setting, points, "exact"), "mage")
    assert cells["64"].endswith("]") and cells["32"].endswith("]†")
    assert row(accuracy_table("a", setting, points, "score"), "mage")["64"].endswith("]†")


def test_failed_and_missing_cells_are_holes(table: Table) -> None:
    assert row(table, "quest")["64"] == "— (out of memory)"
    assert row(table, "random") == {"32": row(table, "random")["32"], "64": "—", "128": "—"}


def test_the_caption_says_how_it_was_measured(table: Table) -> None:
    for part in ("40 examples", "static (tokens_per_step=1)", "first generated block", "0 in dense; 2 in oracle, mage"):
        assert part in table.caption


def test_the_caption_says_that_prompts_were_truncated(sweep: Path, tmp_path: Path) -> None:
    write_answers(tmp_path, "dense", None, lambda i: True, count=20)
    write_cell(tmp_path, "mage", 64, [example(i, True, truncated_tokens=7 if i < 3 else 0) for i in range(20)])
    comparison = compare(load([tmp_path]))
    [(setting, points)] = comparison.settings()
    said = "lost the middle of their context in 1 of 2 cells, in up to 3 of 20 examples"
    assert said in accuracy_table("a", setting, points, "exact").caption
    assert said in cells_table(comparison).caption
    assert "runcated" not in cells_table(compare(load([sweep]))).caption


def test_shares_of_the_prefix_stand_after_tokens(tmp_path: Path) -> None:
    for budget in (0.1, 128, 0.05, 64):
        write_answers(tmp_path, "mage", budget, lambda i: True)
    [(setting, points)] = compare(load([tmp_path])).settings()
    assert list(accuracy_table("a", setting, points, "exact").cells.columns) == ["method", "64", "128", "5%", "10%"]


def test_the_score_can_be_shown_instead_of_exact_match(sweep: Path) -> None:
    [(setting, points)] = compare(load([sweep])).settings()
    assert row(accuracy_table("a", setting, points, "score"), "dense")["32"] == "98.8"


def test_every_cell_has_its_row(sweep: Path) -> None:
    table = cells_table(compare(load([sweep])))
    rows = table.cells.set_index(["method", "budget"])
    assert len(rows) == 11
    assert rows.loc[("mage", "64"), "sparse fwd"] == "11.00"
    assert rows.loc[("mage", "64"), "sparse tokens"] == "92"
    assert rows.loc[("quest", "64"), "status"] == "out of memory"
    assert rows.loc[("quest", "64"), "exact"] == "—"


def test_the_caption_says_what_the_seconds_and_the_shares_are(sweep: Path) -> None:
    caption = cells_table(compare(load([sweep]))).caption
    assert "sparse-token share counts the stop token" in caption
    assert "Seconds are of a torch reference on cpu, 1 thread." in caption
    assert "different conditions" not in caption


def test_the_caption_warns_of_seconds_of_different_conditions(tmp_path: Path) -> None:
    write_answers(tmp_path, "dense", None, lambda i: True)
    write_answers(tmp_path, "mage", 64, lambda i: True, environment=ENVIRONMENT.model_copy(update={"threads": 2}))
    caption = cells_table(compare(load([tmp_path]))).caption
    assert "Cells ran under different conditions (threads: 1, 2): do not compare their seconds." in caption


def test_csv_holds_the_unrounded_numbers(sweep: Path, tmp_path: Path) -> None:
    cells_table(compare(load([sweep]))).write(tmp_path)
    written = pd.read_csv(tmp_path / "cells.csv").set_index(["method", "budget"])
    assert written.loc[("quest", 128), "exact_difference"] == pytest.approx((30 - 39) / 40)
    assert written.loc[("quest", 128), "n"] == 40


def test_latex_is_booktabs_and_escaped(table: Table) -> None:
    text = table.latex()
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"97.5 [0.0, 0.0]", r"\textdagger{}", r"tokens\_per\_step"):
        assert part in text
    assert "%" not in text.replace(r"\%", "")


def test_markup_has_no_effect_in_latex() -> None:
    frame = pd.DataFrame([{"prediction": MARKUP, "n": "[1]"}, {"prediction": "[2] & more", "n": "1"}])
    text = Table("t", "c", frame, frame).latex()
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    assert r"\textless{}script\textgreater{}" in body
    assert r"\textbackslash{}input\{x\}" in body
    assert r"\$\_\{a\}\textasciicircum{}b" in body
    assert body.count(" & ") == 2  # the ampersands of the text are escaped, those between the cells are not
    assert "\n{}[2]" in body  # not an option of the line break before it


def test_control_characters_are_shown_as_codes() -> None:
    assert visible("a\x1b[31m\nb\u202e\x00") == "a\\x1b[31m\\x0ab\\u202e\\x00"
    assert visible("x" * 10, 4) == "xxx…"
    assert latex("ä") == r"\texttt{U+00E4}"


def test_markdown_keeps_a_cell_in_its_cell() -> None:
    frame = pd.DataFrame([{"prediction": MARKUP}])
    lines = Table("t", "c", frame, frame).markdown().splitlines()
    assert len(lines) == 3
    assert lines[2].replace(r"\|", "").count("|") == 2
    assert r"\<script\>" in lines[2]
    assert r"[d\](" in lines[2]
    assert markdown("snapkv_query _a_") == r"snapkv_query \_a\_"


def test_tables_read_back_as_written(table: Table, tmp_path: Path) -> None:
    table.write(tmp_path)
    text = (tmp_path / "accuracy.csv").read_text()
    assert pd.read_csv(io.StringIO(text)).shape == (11, 11)
