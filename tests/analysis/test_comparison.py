from __future__ import annotations

from pathlib import Path

import pytest

from analysis.accuracy_table import accuracy_table
from analysis.comparison import compare, order_checks
from analysis.frame import load
from mage.errors import UserError
from tests.analysis.synthetic import example, write_answers, write_cell


def test_a_method_that_answers_as_dense_does_differs_by_nothing(sweep: Path) -> None:
    points = compare(load([sweep])).points.set_index(["method", "budget_label"])
    mage = points.loc[("mage", "32")]
    assert mage.n == 40
    assert mage.exact == pytest.approx(39 / 40)
    assert mage.score == pytest.approx(39.5 / 40)
    assert (mage.exact_difference, mage.exact_difference_low, mage.exact_difference_high) == (0, 0, 0)
    assert mage.mcnemar_p == 1


def test_a_falling_method_is_measured_against_dense_example_by_example(sweep: Path) -> None:
    quest = compare(load([sweep])).points.set_index(["method", "budget_label"]).loc[("quest", "32")]
    # Right on i % 4 == 0: 10 of 40, and dense is right on 39.
    assert quest.exact_difference == pytest.approx((10 - 39) / 40)
    assert quest.exact_difference_low < -29 / 40 < quest.exact_difference_high < 0
    assert quest.score_difference == pytest.approx(quest.exact_difference / 2)
    assert quest.mcnemar_p == pytest.approx(2 / 2**29)


def test_a_failed_cell_has_no_numbers(sweep: Path) -> None:
    quest = compare(load([sweep])).points.set_index(["method", "budget_label"]).loc[("quest", "64")]
    assert quest.status == "out_of_memory"
    assert quest[["n", "exact", "exact_difference", "density"]].isna().all()


def test_dense_has_no_difference_to_itself(sweep: Path) -> None:
    points = compare(load([sweep])).points
    assert points[points.method == "dense"].exact_difference.isna().all()


def test_seeds_are_pooled_and_a_lost_seed_is_a_hole(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_answers(tmp_path, "dense", None, lambda i: True, seed=seed)
        write_answers(tmp_path, "mage", 64, lambda i, seed=seed: seed == 0, seed=seed)
    write_answers(tmp_path, "quest", 64, lambda i: True, seed=0)
    points = compare(load([tmp_path])).points.set_index("method")
    assert points.loc["mage"].n == 80
    assert points.loc["mage"].exact == 0.5
    assert points.loc["quest"].status == "no seed 1"


def test_a_failed_dense_cell_leaves_accuracy_without_difference(tmp_path: Path) -> None:
    write_cell(tmp_path, "dense", None, [], status="timeout", error="after 10 s")
    write_answers(tmp_path, "mage", 64, lambda i: True)
    mage = compare(load([tmp_path])).points.set_index("method").loc["mage"]
    assert mage.exact == 1
    assert "exact_difference" not in mage


def test_cells_with_other_examples_are_not_compared(tmp_path: Path) -> None:
    write_answers(tmp_path, "dense", None, lambda i: True, count=40)
    write_cell(tmp_path, "mage", 64, [example(i, True) for i in range(1, 41)])
    with pytest.raises(UserError, match=r"mage\(64\) and dense on tiny niah static block cannot be paired.*00000"):
        compare(load([tmp_path]))


def test_a_cell_with_fewer_examples_is_compared_on_its_own(tmp_path: Path) -> None:
    write_answers(tmp_path, "dense", None, lambda i: i < 20, count=40)
    write_answers(tmp_path, "mage", 64, lambda i: i < 10, count=20)
    write_answers(tmp_path, "oracle", 64, lambda i: i < 20, count=20)
    comparison = compare(load([tmp_path]))
    points = comparison.points.set_index("method")
    assert points.loc["dense"].exact == 0.5
    assert (points.loc["mage"].n, points.loc["mage"].exact_difference) == (20, -0.5)
    assert [check.difference.mean for check in order_checks(comparison)] == [0]
    [(setting, own)] = comparison.settings()
    assert "20 to 40 examples a cell" in accuracy_table("a", setting, own, "exact").caption


def test_order_holds_within_the_interval(sweep: Path) -> None:
    checks = order_checks(compare(load([sweep])))
    steps = [("dense", "oracle(128)"), ("oracle(128)", "oracle(64)"), ("oracle(64)", "oracle(32)")]
    assert [(c.larger, c.smaller) for c in checks] == steps
    assert all(c.holds for c in checks)


def test_order_fails_where_a_smaller_budget_beats_a_larger(tmp_path: Path) -> None:
    write_answers(tmp_path, "dense", None, lambda i: True)
    write_answers(tmp_path, "oracle", 64, lambda i: i % 2 == 0)
    write_answers(tmp_path, "oracle", 32, lambda i: True)
    checks = {c.smaller: c.holds for c in order_checks(compare(load([tmp_path])))}
    assert checks == {"oracle(64)": True, "oracle(32)": False}
