from __future__ import annotations

import random
from pathlib import Path

import pytest

from analysis.accuracy_table import accuracy_table
from analysis.cells_table import cells_table
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


@pytest.fixture
def eight_seeds(tmp_path: Path) -> Path:
    """Fixed data of 20 examples, shuffled by 8 seeds: mage loses example 0 under each, random 0 or 1."""
    for seed in range(8):
        for method, budget in (("dense", None), ("mage", 64), ("random", 64)):
            lost = {"mage": 0, "random": seed % 2}.get(method)
            order = random.Random(seed).sample(range(20), 20)
            rows = [example(i, i != lost, budget=budget, id=f"fixed-{i}", truncated_tokens=3 * (i < 2)) for i in order]
            write_cell(tmp_path, method, budget, rows, seed=seed, told={"source": "hub"})
    return tmp_path


def test_seeds_of_fixed_data_bring_no_new_examples(eight_seeds: Path) -> None:
    comparison = compare(load([eight_seeds]))
    points = comparison.points.set_index("method")
    assert list(points.n) == [20] * 3 and list(points.answers) == [160] * 3
    assert list(points.truncated_examples) == [2] * 3
    # One example lost in 20, and not 8 in 160, of which McNemar's test would say p = 0.008.
    mage = points.loc["mage"]
    assert mage.mcnemar_p == 1
    assert (mage.exact, mage.exact_difference) == pytest.approx((0.95, -0.05))
    assert (mage.exact_difference_low, mage.exact_difference_high) == pytest.approx((-0.15, 0))
    # Two examples, each lost under half of the seeds; of 20 draws five are one of them at the lower end.
    assert points.loc["random"].exact == pytest.approx(0.95)
    assert points.loc["random"].exact_difference_low == pytest.approx(-0.125)


def test_captions_count_distinct_examples(eight_seeds: Path) -> None:
    comparison = compare(load([eight_seeds]))
    [(setting, points)] = comparison.settings()
    for caption in (accuracy_table("a", setting, points, "exact").caption, cells_table(comparison).caption):
        assert "n counts distinct ones, each with the mean of its answers (up to 160 answers to 20 examples)" in caption
        assert "McNemar's test counts each example once" in caption
        assert "in up to 2 of 20 examples" in caption
    assert "20 examples a cell" in accuracy_table("a", setting, points, "exact").caption


def test_seeds_of_generated_data_are_no_shared_examples(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_answers(tmp_path, "dense", None, lambda i: True, seed=seed)
    assert "distinct" not in cells_table(compare(load([tmp_path]))).caption


def test_dense_with_more_answers_is_paired_with_those_of_the_same_seed(tmp_path: Path) -> None:
    """Seed 1 asks for other examples first: mage has example 0 under seed 0 only, dense under both."""
    order = {0: list(range(12)), 1: list(range(11, -1, -1))}
    for seed, ids in order.items():
        # Dense is right on example 0 under seed 0 alone.
        rows = [example(i, (seed, i) != (1, 0), budget=None, id=f"fixed-{i}") for i in ids]
        write_cell(tmp_path, "dense", None, rows, seed=seed)
        write_cell(tmp_path, "mage", 64, [example(i, True, id=f"fixed-{i}") for i in ids[:6]], seed=seed)
    mage = compare(load([tmp_path])).points.set_index("method").loc["mage"]
    assert (mage.n, mage.exact_difference) == (12, 0)


def test_few_examples_have_no_interval(tmp_path: Path) -> None:
    for method, budget in (("dense", None), ("oracle", 64)):
        write_answers(tmp_path, method, budget, lambda i: True, count=1)
    comparison = compare(load([tmp_path]))
    [(setting, points)] = comparison.settings()
    table = accuracy_table("a", setting, points)
    assert list(table.cells["64"]) == ["100.0", "100.0"]
    assert " 1 example a cell" in table.caption
    assert "Of fewer than 5 examples there is no interval." in table.caption
    assert list(cells_table(comparison).cells.difference) == ["—", "0.0"]
    assert all(check.holds for check in order_checks(comparison))


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
