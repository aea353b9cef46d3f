"""Examples that share a context: intervals and tests are over contexts, and the captions say so."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.accuracy_table import accuracy_table
from analysis.cells_table import cells_table
from analysis.comparison import compare, order_checks
from analysis.figures.recall import recall_rows, step_means
from analysis.frame import load
from analysis.reference import Reference, reference_of
from analysis.report import write_report
from analysis.statistics import bootstrap_interval, mcnemar_exact, mean_of_means, paired_difference, stratum
from analysis.verdict import compare as judge
from runners.record import RecallResult, RecallRow
from tests.analysis.synthetic import example, write_cell

RANDOM = np.random.default_rng(5)


def test_correlated_examples_have_the_interval_of_one_example_a_context() -> None:
    one = RANDOM.random(30)
    contexts = [f"c{i:02d}" for i in range(30) for _ in range(8)]
    many = np.repeat(one, 8)
    alone, together = bootstrap_interval(one), bootstrap_interval(many, contexts)
    assert (together.mean, together.low, together.high) == pytest.approx((alone.mean, alone.low, alone.high), abs=1e-11)
    blind = bootstrap_interval(many)
    assert together.high - together.low > 2 * (blind.high - blind.low)
    strata = [mean_of_means([stratum(one, "a")]), mean_of_means([stratum(many, "a", contexts)])]
    assert (strata[0].low, strata[0].high) == pytest.approx((strata[1].low, strata[1].high), abs=1e-11)


def test_the_interval_covers_the_truth_where_contexts_differ() -> None:
    covered = {True: 0, False: 0}
    contexts = [str(i) for i in range(25) for _ in range(8)]
    for _ in range(100):
        values = np.repeat(RANDOM.normal(0, 1, 25), 8) + RANDOM.normal(0, 0.3, 200)
        for known in covered:
            interval = bootstrap_interval(values, contexts if known else None, resamples=500)
            covered[known] += interval.low <= 0 <= interval.high
    assert covered[True] >= 86 and covered[False] <= 70


def test_independent_examples_have_much_the_same_interval_in_contexts_or_not() -> None:
    values = RANDOM.random(2_000)
    plain = bootstrap_interval(values)
    grouped = bootstrap_interval(values, [str(i // 4) for i in range(2_000)])
    assert (grouped.low, grouped.high) == pytest.approx((plain.low, plain.high), abs=4e-3)


def test_contexts_of_different_sizes_weigh_by_their_examples() -> None:
    values, contexts = np.array([1.0] * 4 + [0.0] * 4), list("aaaabcde")
    interval = bootstrap_interval(values, contexts)
    assert interval.mean == 0.5 and (interval.low, interval.high) == (0.0, pytest.approx(12 / 14))


def test_few_contexts_have_no_interval() -> None:
    assert math.isnan(bootstrap_interval(np.arange(40.0), [str(i % 4) for i in range(40)]).low)
    few = stratum(np.arange(40.0), "a", [str(i % 4) for i in range(40)])
    assert math.isnan(mean_of_means([few]).low)


def enumerated(sums: list[int]) -> float:
    """The p-value by trying all signs."""
    turned = [abs(sum(s * n for s, n in zip(signs, sums, strict=True))) for signs in product((1, -1), repeat=len(sums))]
    return sum(total >= abs(sum(sums)) for total in turned) / len(turned)


@pytest.mark.parametrize("sums", [[2, 2, 1, -1], [4], [1, 1, 1, 1, 1, 1], [3, -2, 0, 1, 2], [0, 0], []], ids=str)
def test_whole_contexts_change_sides(sums: list[int]) -> None:
    dense = {f"{c}-{i}": float(total < 0) for c, total in enumerate(sums) for i in range(abs(total))} | {"same": 1.0}
    method = {i: 1 - value for i, value in dense.items()} | {"same": 1.0}
    contexts = {i: i.split("-")[0] for i in dense}
    assert mcnemar_exact(method, dense, contexts) == pytest.approx(enumerated(sums))


def test_one_example_a_context_is_mcnemars_test() -> None:
    dense = {str(i): float(i % 3 == 0) for i in range(60)}
    method = {i: float(int(i) % 5 == 0 or int(i) > 40) for i in dense}
    contexts = {i: f"c{i}" for i in dense}
    assert mcnemar_exact(method, dense, contexts) == pytest.approx(mcnemar_exact(method, dense), rel=1e-12)
    assert paired_difference(method, dense, contexts).mean == paired_difference(method, dense).mean


def write(folder: Path, method: str, budget: int | None, lost: int, shared: int = 4, count: int = 40) -> None:
    """A cell of `count` examples, `shared` a context, of which the first `lost` are wrong."""
    rows = []
    for i in range(count):
        row = example(i, i >= lost, budget=budget)
        rows.append(row.model_copy(update={"labels": {**row.labels, "context": f"s0-{i // shared:05d}"}}))
    write_cell(folder, method, budget, rows)


def test_a_loss_of_one_context_is_no_proof(tmp_path: Path) -> None:
    """Eight examples lost at once: of independent ones McNemar's test would say p = 0.008."""
    for method, budget, lost in (("dense", None, 0), ("oracle", 64, 0), ("mage", 64, 8)):
        write(tmp_path, method, budget, lost, shared=8)
    comparison = compare(load([tmp_path]))
    mage = comparison.points.set_index("method").loc["mage"]
    assert (mage.n, mage.contexts, mage.mcnemar_p) == (40, 5, 1)
    assert (mage.exact_difference, mage.exact_difference_low, mage.exact_difference_high) == pytest.approx(
        (-0.2, -0.6, 0)
    )
    assert mage.exact_low == pytest.approx(0.4)
    assert all(check.holds for check in order_checks(comparison))
    [(setting, points)] = comparison.settings()
    for caption in (accuracy_table("a", setting, points, "exact").caption, cells_table(comparison).caption):
        assert "Examples share contexts, 40 examples in 5 contexts a cell: intervals resample contexts" in caption
    write_report(load([tmp_path]), "t", None, tmp_path / "report")
    assert "whole contexts are resampled" in (tmp_path / "report" / "report.md").read_text()


def test_captions_say_why_few_contexts_have_no_interval(tmp_path: Path) -> None:
    for method, budget in (("dense", None), ("mage", 64)):
        write(tmp_path, method, budget, 0, shared=20)
    caption = cells_table(compare(load([tmp_path]))).caption
    assert "40 examples in 2 contexts" in caption and "Of fewer than 5 contexts there is no interval." in caption


def test_without_contexts_nothing_is_said_of_them(tmp_path: Path) -> None:
    for method, budget in (("dense", None), ("mage", 64)):
        write_cell(tmp_path, method, budget, [example(i, True, budget=budget) for i in range(8)])
    comparison = compare(load([tmp_path]))
    assert "contexts" not in comparison.points and "contexts" not in cells_table(comparison).caption
    write_report(load([tmp_path]), "t", None, tmp_path / "report")
    assert "resampled" not in (tmp_path / "report" / "report.md").read_text()


def test_the_gate_counts_contexts(tmp_path: Path) -> None:
    for name, lost in (("before", 0), ("after", 8)):
        write(tmp_path / name, "dense", None, lost, shared=8)
    before, after = (reference_of(load([tmp_path / name]), "") for name in ("before", "after"))
    (verdict,) = judge(after, before, 0.95, 0.0)
    assert verdict.outcome == "held", "one context of five fell: by examples the interval would exclude zero"
    assert before.sets[0].contexts[7:9] == ["s0-00000", "s0-00001"]
    before.write(tmp_path / "reference.json")
    assert Reference.model_validate_json((tmp_path / "reference.json").read_bytes()) == before


def test_a_reference_without_contexts_says_nothing_of_them(tmp_path: Path) -> None:
    write_cell(tmp_path / "t", "dense", None, [example(i, True, budget=None) for i in range(3)])
    reference_of(load([tmp_path / "t"]), "").write(tmp_path / "reference.json")
    written = json.loads((tmp_path / "reference.json").read_text())
    assert set(written["sets"][0]) == {"ids", "digests"}


@pytest.mark.parametrize("told", [{}, {"questions": 1}])
def test_one_question_a_context_is_the_option_of_before(tmp_path: Path, told: dict[str, int]) -> None:
    write_cell(tmp_path, "dense", None, [example(0, True)], config={"task": {"name": "niah", **told}})
    (cell,) = reference_of(load([tmp_path]), "").cells
    assert "task.questions" not in cell.settings


def test_recall_is_over_contexts(tmp_path: Path) -> None:
    def result(i: int, context: str | None) -> RecallResult:
        recall = 0.5 + 0.05 * (i // 4)
        row = RecallRow(block=1, step=1, layer=0, recall=recall, mass_captured=0.9, oracle_mass=0.8)
        return RecallResult(id=f"r-{i:03d}", context=context, prefix_tokens=64, budget_tokens=16, rows=[row])

    means: list[pd.DataFrame] = []
    for name, shared in (("alone", False), ("together", True)):
        rows = [result(i, f"c{i // 4}" if shared else None) for i in range(32)]
        write_cell(tmp_path / name, "mage", 16, rows, runner="recall")
        means.append(step_means(recall_rows(load([tmp_path / name]))))
    alone, together = (float(found.high.iloc[0] - found.low.iloc[0]) for found in means)
    assert together > 1.7 * alone
