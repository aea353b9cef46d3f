"""The tables of whole benchmarks: LongBench, LongBench-E, LongBench v2, RULER."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.categories import LONGBENCH
from analysis.comparison import compare
from analysis.frame import load
from analysis.statistics import mean_of_means, stratum
from analysis.suite import Suite, suites
from analysis.suite_table import category_table, split_table, suite_table
from analysis.table import Table
from tests.analysis.synthetic import example, write_cell

N = 18


def answers(
    folder: Path,
    task: str,
    method: str,
    budget: int | None,
    score: float,
    *,
    labels: list[dict[str, Any]] | None = None,
    truncated: int = 0,
    **told: Any,
) -> None:
    """A cell whose examples score `score`, the even ones 0.1 more and the odd ones 0.1 less."""
    rows = [
        example(i, False, task=task.replace("/", "-"), budget=budget, score=score + (0.1 if i % 2 else -0.1))
        .model_copy(update={"truncated_tokens": 9 if i < truncated else 0})
        .model_copy(update={"labels": labels[i % len(labels)] if labels else {"words": i}})
        for i in range(N)
    ]
    write_cell(folder, method, budget, rows, task=task, told={"metric": "F1", "question": "text", **told})


def table_of(folder: Path, chosen: Any = None) -> tuple[Suite, Table]:
    (suite,) = suites(compare(load([folder])), chosen)
    return suite, suite_table(suite, "t")


def cells(table: Table) -> pd.DataFrame:
    return table.cells.set_index(["method", "budget"])


def test_columns_are_tasks_in_the_official_order_on_the_official_scale(tmp_path: Path) -> None:
    for task, score in (("repobench-p", 0.6), ("hotpotqa", 0.456789), ("narrativeqa", 0.2)):
        answers(tmp_path, f"longbench/{task}", "dense", None, score)
        answers(tmp_path, f"longbench/{task}", "mage", 512, score - 0.05)
    _, table = table_of(tmp_path)
    assert list(table.cells.columns) == [
        *("method", "budget", "narrativeqa", "hotpotqa", "repobench-p", "average", "difference to dense"),
    ]
    assert list(cells(table).loc[("dense", "full")])[:4] == ["20.00", "45.68", "60.00", "41.89"]
    assert cells(table).loc[("mage", "512"), "average"] == "36.89"
    # The same loss in every example: an interval without width.
    assert cells(table).loc[("mage", "512"), "difference to dense"] == "-5.00 [-5.00, -5.00]†"


def test_a_failed_and_a_missing_cell_are_holes_and_their_row_has_no_average(tmp_path: Path) -> None:
    for task in ("qasper", "qmsum"):
        answers(tmp_path, f"longbench/{task}", "dense", None, 0.5)
    answers(tmp_path, "longbench/qasper", "mage", 64, 0.5)
    answers(tmp_path, "longbench/qasper", "quest", 64, 0.5)
    failed: dict[str, Any] = {"status": "out_of_memory", "error": "no", "told": {"metric": "F1", "question": "text"}}
    write_cell(tmp_path, "quest", 64, [], task="longbench/qmsum", config={"examples": 1}, **failed)
    _, table = table_of(tmp_path)
    for method in ("mage", "quest"):
        assert list(cells(table).loc[(method, "64")]) == ["50.00", "—", "—", "—"]
    assert "out of memory: longbench/qmsum quest 64" in table.caption
    assert "not run: longbench/qmsum mage 64" in table.caption
    assert np.isnan(table.numbers.set_index("method").loc["mage", "average"])


def test_every_task_weighs_the_same_however_many_examples_it_has(tmp_path: Path) -> None:
    for method, budget in (("dense", None), ("mage", 64)):
        rows = [example(i, True, task="a", budget=budget) for i in range(40)]
        write_cell(tmp_path, method, budget, rows, task="ruler/vt", told={"metric": "found"})
        rows = [example(i, True, task="b", budget=budget, score=0.0) for i in range(4)]
        write_cell(tmp_path, method, budget, rows, task="ruler/cwe", told={"metric": "found"})
    _, table = table_of(tmp_path)
    assert cells(table).loc[("mage", "64"), "average"] == "50.00"


def test_the_interval_is_that_of_a_bootstrap_within_tasks() -> None:
    chance = np.random.default_rng(0)
    first, second = chance.normal(0.2, 1, 100), chance.normal(-0.1, 2, 50)
    found = mean_of_means([stratum(first, "a"), stratum(second, "b")])
    # Normal approximation: the variance of a mean of two means is a quarter of the sum of theirs.
    width = 1.96 * np.sqrt(first.var() / 100 + second.var() / 50) / 2
    assert found.mean == pytest.approx((first.mean() + second.mean()) / 2)
    assert found.low == pytest.approx(found.mean - width, abs=0.03)
    assert found.high == pytest.approx(found.mean + width, abs=0.03)


def test_tasks_of_as_many_examples_are_resampled_independently() -> None:
    values = np.random.default_rng(0).normal(0, 1, 50)
    alone = mean_of_means([stratum(values, "a")])
    twice = mean_of_means([stratum(values, "a"), stratum(values, "b")])
    assert (twice.high - twice.low) / (alone.high - alone.low) == pytest.approx(np.sqrt(0.5), abs=0.03)


def test_categories_are_shown_when_all_their_english_tasks_are_there(tmp_path: Path) -> None:
    names = ["narrativeqa", "qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "musique", "trec", "triviaqa"]
    for name in names:
        answers(tmp_path, f"longbench/{name}", "dense", None, 0.2 if name == "qasper" else 0.5)
    suite, _ = table_of(tmp_path)
    assert suite.categories == {
        "single-doc QA": [f"longbench/{n}" for n in names[:3]],
        "multi-doc QA": [f"longbench/{n}" for n in names[3:6]],
    }
    table = category_table(suite, "c")
    assert table is not None
    assert list(cells(table).loc[("dense", "full")])[:3] == ["40.00", "50.00", "46.25"]


def test_the_average_of_whole_categories_is_over_categories(tmp_path: Path) -> None:
    """LongBench's Overall: four tasks of 20 and two of 80 have the mean 50 over their two categories, 40 over tasks."""
    names = [*LONGBENCH["single-doc QA"], *LONGBENCH["code"]]
    for name in names:
        dense = 0.8 if name in LONGBENCH["code"] else 0.2
        answers(tmp_path, f"longbench/{name}", "dense", None, dense)
        answers(tmp_path, f"longbench/{name}", "mage", 64, dense - (0.2 if name == "lcc" else 0))
    suite, tasks = table_of(tmp_path)
    table = category_table(suite, "c")
    assert table is not None
    assert list(cells(table).loc[("dense", "full")])[:3] == ["20.00", "80.00", "50.00"]
    assert cells(table).loc[("mage", "64"), "difference to dense"] == "-5.00 [-5.00, -5.00]†"
    assert table.numbers.set_index("method").loc["mage", "average"] == pytest.approx(45)
    assert "Average: the macro-average over the 2 categories (Overall), not over tasks" in table.caption
    assert cells(tasks).loc[("dense", "full"), "average"] == "40.00"
    assert cells(tasks).loc[("mage", "64"), "difference to dense"] == "-3.33 [-3.33, -3.33]†"
    assert "over the 6 tasks, all weighing alike, which is not the macro-average over categories" in tasks.caption


def test_the_average_of_ruler_is_over_tasks(tmp_path: Path) -> None:
    for name, score in (("vt", 0.2), ("cwe", 0.6), ("fwe", 0.7)):
        answers(tmp_path, f"ruler/{name}", "dense", None, score)
    suite, tasks = table_of(tmp_path)
    table = category_table(suite, "c")
    assert table is not None
    assert list(cells(table).loc[("dense", "full")])[:3] == ["20.00", "65.00", "50.00"]
    assert "over all 3 tasks" in table.caption and "macro" not in table.caption + tasks.caption


def test_seeds_that_ask_the_same_examples_bring_no_new_ones(tmp_path: Path) -> None:
    for task in ("qasper", "qmsum"):
        for seed in range(4):
            for method, budget in (("dense", None), ("mage", 64)):
                told = {"metric": "F1", "source": "hub"}
                scores = [0.1 if budget else 0.0, 0.1, 0.2, 0.3, 0.4]
                rows = [example(i, False, budget=budget, id=f"{task}{i}", score=s) for i, s in enumerate(scores)]
                write_cell(tmp_path, method, budget, rows, task=f"longbench/{task}", seed=seed, told=told)
    suite, table = table_of(tmp_path)
    once = mean_of_means([stratum(np.arange(5) / 10, f"longbench/{task}") for task in ("qasper", "qmsum")])
    cell = suite.mean(("dense", ""), suite.tasks)
    assert cell is not None
    assert (cell.value.low, cell.value.high) == pytest.approx((once.low, once.high))
    assert (
        cells(table).loc[("mage", "64"), "difference to dense"] == "+2.00 [+0.00, +5.00]"
    )  # 10 draws, each 1 with 1/5
    assert "5 examples a task" in table.caption and "(up to 20 answers to 5 examples)" in table.caption


def test_one_example_a_task_has_no_interval(tmp_path: Path) -> None:
    for task in ("qasper", "qmsum"):
        for method, budget in (("dense", None), ("mage", 64)):
            rows = [example(0, True, budget=budget)]
            write_cell(tmp_path, method, budget, rows, task=f"longbench/{task}", told={"metric": "F1"})
    _, table = table_of(tmp_path)
    assert cells(table).loc[("mage", "64"), "difference to dense"] == "+0.00"
    assert " 1 example a task" in table.caption and "there is no interval" in table.caption


def test_all_21_tasks_make_six_categories() -> None:
    assert sum(map(len, LONGBENCH.values())) == 21
    assert len(LONGBENCH) == 6


def test_one_task_alone_makes_no_suite(tmp_path: Path) -> None:
    answers(tmp_path, "longbench/qasper", "dense", None, 0.5)
    assert list(suites(compare(load([tmp_path])))) == []


def test_longbench_e_has_a_column_for_each_bucket(tmp_path: Path) -> None:
    labels = [{"bucket": b} for b in ("8k+", "0-4k", "4-8k")]
    for task in ("qasper", "trec"):
        answers(tmp_path, f"longbench_e/{task}", "dense", None, 0.5, labels=labels)
        answers(tmp_path, f"longbench_e/{task}", "mage", 64, 0.4, labels=labels)
    suite, _ = table_of(tmp_path)
    table = split_table(suite, "s", "bucket")
    assert table is not None
    assert list(table.cells.columns)[2:5] == ["0-4k", "4-8k", "8k+"]
    assert list(cells(table).loc[("mage", "64")])[:3] == ["40.00†"] * 3


def test_ruler_has_a_table_of_lengths(tmp_path: Path) -> None:
    labels = [{"length": 4096}, {"length": 16384}]
    for task in ("vt", "cwe"):
        answers(tmp_path, f"ruler/{task}", "dense", None, 0.5, labels=labels)
    suite, _ = table_of(tmp_path)
    table = split_table(suite, "s", "length")
    assert table is not None
    assert list(cells(table).loc[("dense", "full")])[:2] == ["40.00", "60.00"]  # odd examples have the longer prompts
    assert split_table(suite, "s", "bucket") is None


def test_a_label_that_nearly_each_example_has_its_own_of_is_no_axis(tmp_path: Path) -> None:
    for task, start in (("vt", 100), ("cwe", 200)):
        labels = [{"length": start + i} for i in range(N)]
        answers(tmp_path, f"ruler/{task}", "dense", None, 0.5, labels=labels)
    suite, _ = table_of(tmp_path)
    assert len(suite.label_values("length")) == 2 * N
    assert split_table(suite, "s", "length") is None


def test_longbench_v2_is_a_suite_of_one_task_by_length_and_difficulty(tmp_path: Path) -> None:
    labels = [{"length": "medium", "difficulty": "hard"}, {"length": "short", "difficulty": "easy"}]
    answers(tmp_path, "longbench_v2", "dense", None, 0.5, labels=labels)
    suite, _ = table_of(tmp_path)
    by_length, by_difficulty = (split_table(suite, "s", label) for label in ("length", "difficulty"))
    assert by_length is not None and list(by_length.cells.columns)[2:4] == ["short", "medium"]
    assert by_difficulty is not None and list(by_difficulty.cells.columns)[2:4] == ["easy", "hard"]


def test_the_caption_counts_truncated_examples(tmp_path: Path) -> None:
    for method, budget in (("dense", None), ("mage", 64)):
        answers(tmp_path, "longbench/qasper", method, budget, 0.5, truncated=3)
        answers(tmp_path, "longbench/qmsum", method, budget, 0.5, truncated=5)
        answers(tmp_path, "longbench/trec", method, budget, 0.5)
    _, table = table_of(tmp_path)
    assert "Truncated in the middle, as too long: 8 of 54 examples (qmsum 5, qasper 3)." in table.caption


def test_sample_data_and_untrained_positions_are_marked_everywhere(tmp_path: Path) -> None:
    for task in ("qasper", "qmsum"):
        answers(tmp_path, f"longbench/{task}", "dense", None, 0.5, source="sample", extended="YaRN x4")
    suite, table = table_of(tmp_path)
    assert suite.full_name == "longbench (sample; YaRN x4)"
    assert suite.tasks == ["longbench/qasper (sample; YaRN x4)", "longbench/qmsum (sample; YaRN x4)"]
    assert "no benchmark" in table.caption and "more positions than it was trained with" in table.caption


def test_models_of_other_options_are_suites_of_their_own(tmp_path: Path) -> None:
    for model in ("sdar_8b", "llada2_0_mini"):
        for task in ("qasper", "qmsum"):
            config = {"model": {"name": model}}
            rows = [example(i, True, task=task, budget=None) for i in range(4)]
            told = {"metric": "F1", "model": model}
            write_cell(tmp_path, "dense", None, rows, task=f"longbench/{task}", told=told, config=config)
    assert {suite.place[0] for suite in suites(compare(load([tmp_path])))} == {"sdar_8b", "llada2_0_mini"}


def test_a_dense_cell_with_more_examples_is_paired_over_those_of_both(tmp_path: Path) -> None:
    for task in ("qasper", "qmsum"):
        told = {"metric": "F1"}
        rows = [example(i, True, task=task, budget=None, score=1.0 if i < 10 else 0.0) for i in range(20)]
        write_cell(tmp_path, "dense", None, rows, task=f"longbench/{task}", told=told)
        rows = [example(i, True, task=task, score=0.5) for i in range(10)]
        write_cell(tmp_path, "mage", 64, rows, task=f"longbench/{task}", told=told)
    _, table = table_of(tmp_path)
    assert cells(table).loc[("mage", "64"), "difference to dense"] == "-50.00 [-50.00, -50.00]†"


def test_exact_match_can_be_chosen_for_a_benchmark(tmp_path: Path) -> None:
    for task in ("qasper", "qmsum"):
        answers(tmp_path, f"longbench/{task}", "dense", None, 0.5)
    _, table = table_of(tmp_path, "exact")
    assert cells(table).loc[("dense", "full"), "average"] == "0.00"
    assert "exact match: qasper, qmsum" in table.caption


def test_latex_of_a_wide_table_is_scaled_to_the_text(tmp_path: Path) -> None:
    random.seed(0)
    for task in [name for names in LONGBENCH.values() for name in names][:12]:
        answers(tmp_path, f"longbench/{task}", "dense", None, random.random() / 2 + 0.2)
    _, table = table_of(tmp_path)
    text = table.latex()
    assert r"\resizebox{\linewidth}{!}{%" in text and "\\end{tabular}}\n" in text
    assert table.wide
