from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from analysis.comparison import compare
from analysis.figures.accuracy import accuracy_by_budget, accuracy_by_density, limits
from analysis.figures.density import density_by_budget
from analysis.figures.heatmap import grid_examples, needle_heatmap, tokens
from analysis.figures.recall import recall_by_step, recall_rows, step_means
from analysis.figures.style import LOOKS, looks, title
from analysis.frame import load
from analysis.ordering import METHODS
from runners.record import RecallResult
from tests.analysis.synthetic import example, recall_result, write_answers, write_cell


def is_drawn(path: Path) -> bool:
    pixels = imread(path)
    return pixels.shape[0] > 200 and pixels.std() > 0.02 and path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_every_method_has_its_own_look() -> None:
    assert set(LOOKS) == set(METHODS)
    assert len({look.color for look in LOOKS.values()}) == len(LOOKS)
    assert len({look.marker for look in LOOKS.values()}) == len(LOOKS)


def test_a_look_does_not_depend_on_the_company() -> None:
    alone, together = looks(["mage"]), looks(["new", "quest", "mage", "dense"])
    assert alone["mage"] == together["mage"]
    assert together["new"] not in LOOKS.values()


def test_variants_keep_the_colour_and_the_marker_of_their_method() -> None:
    variants = [f"mage (rounds={number})" for number in range(15)]
    found = looks([*variants, "quest", "new (a=1)", "new (a=2)"])
    own = [found[variant] for variant in variants]
    assert {(look.color, look.marker) for look in own} == {(LOOKS["mage"].color, LOOKS["mage"].marker)}
    assert len({(look.dash, look.marks["fillstyle"]) for look in own}) == len(variants)
    assert found["quest"] == LOOKS["quest"] and own[0] == looks(["mage"])["mage"]
    first, second = found["new (a=1)"], found["new (a=2)"]
    assert (first.color, first.marker) == (second.color, second.marker) and first.dash != second.dash


def test_markers_at_a_lone_budget_stand_near_its_tick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for method in ("mage", "quest", "snapkv"):
        write_answers(tmp_path, method, 64, lambda i: True)
    drawn: list[Figure] = []
    monkeypatch.setattr("analysis.figures.accuracy.save", lambda figure, folder, name: drawn.append(figure))
    accuracy_by_budget(compare(load([tmp_path])).points, "exact", tmp_path, "a")
    [axis] = drawn[0].axes
    places = axis.transAxes.inverted().transform(
        [axis.transData.transform((line.get_xdata()[0], 50)) for line in axis.lines]
    )[:, 0]
    assert len({round(float(place), 6) for place in places}) == 3
    assert np.abs(places - 0.5).max() < 0.05


def test_accuracy_figures_are_drawn(sweep: Path, tmp_path: Path) -> None:
    points = compare(load([sweep])).points
    [budget] = accuracy_by_budget(points, "exact", tmp_path, "accuracy")
    [density] = accuracy_by_density(points, "exact", tmp_path, "accuracy-density")
    [cost] = density_by_budget(points, tmp_path, "density")
    assert is_drawn(budget) and is_drawn(density) and is_drawn(cost)


def test_a_figure_is_the_same_each_time(sweep: Path, tmp_path: Path) -> None:
    points = compare(load([sweep])).points
    digests = set()
    for run in ("a", "b"):
        [png] = accuracy_by_budget(points, "exact", tmp_path / run, "accuracy")
        digests.add(tuple(hashlib.sha256(p.read_bytes()).hexdigest() for p in (png, png.with_suffix(".pdf"))))
    assert len(digests) == 1


def test_shares_get_a_figure_of_their_own(tmp_path: Path) -> None:
    for budget in (64, 0.1):
        write_answers(tmp_path / "sweep", "mage", budget, lambda i: True)
    written = accuracy_by_budget(compare(load([tmp_path / "sweep"])).points, "exact", tmp_path, "accuracy")
    assert [path.name for path in written] == ["accuracy.png", "accuracy-share.png"]


def test_without_a_result_there_is_no_figure(tmp_path: Path) -> None:
    write_cell(tmp_path / "sweep", "mage", 64, [], status="error", error="no")
    points = compare(load([tmp_path / "sweep"])).points
    assert accuracy_by_budget(points, "exact", tmp_path, "a") == []
    assert accuracy_by_density(points, "exact", tmp_path, "b") == []
    assert density_by_budget(points, tmp_path, "c") == []


def test_the_heatmap_needs_more_than_one_depth(sweep: Path, tmp_path: Path) -> None:
    rows = grid_examples(load([sweep]))
    assert set(rows.columns) >= {"length", "depth", "exact", "method", "budget_label"}
    [path] = needle_heatmap(rows, "32", "exact", tmp_path, "heatmap")
    assert is_drawn(path)
    assert needle_heatmap(rows[rows.depth == 0.5], "32", "exact", tmp_path, "one") == []


def test_examples_without_length_and_depth_stay_out_of_the_heatmap(tmp_path: Path) -> None:
    write_cell(tmp_path, "mage", 64, [example(0, True, labels={"hops": 3}), example(1, True)])
    assert list(grid_examples(load([tmp_path])).id) == ["niah-0-00001"]


def test_examples_that_ask_for_several_needles_stay_out_of_the_heatmap(tmp_path: Path) -> None:
    labels = [{"length": 512, "depth": 0.5, "asked": asked} for asked in (4, 1)]
    write_cell(tmp_path, "mage", 64, [example(i, True, labels=labels[i]) for i in range(2)])
    assert list(grid_examples(load([tmp_path])).id) == ["niah-0-00001"]


def test_a_grid_of_many_lengths_and_depths_is_drawn_without_numbers(tmp_path: Path) -> None:
    rows = [
        example(35 * i + j, True, labels={"length": 1000 + 441 * i, "depth": round(j / 34, 2)}, task="needle")
        for i in range(35)
        for j in range(35)
    ]
    write_cell(tmp_path / "a", "mage", 64, rows, task="needle", told={"metric": "recall of words"})
    results = load([tmp_path / "a"])
    [path] = needle_heatmap(grid_examples(results).assign(metric="recall of words"), "64", None, tmp_path, "heatmap")
    assert is_drawn(path)


def test_scores_are_drawn_on_the_part_of_the_scale_that_holds_them(sweep: Path, tmp_path: Path) -> None:
    points = compare(load([sweep])).points.assign(metric="F1")
    [whole] = accuracy_by_budget(points, "exact", tmp_path, "exact")
    [part] = accuracy_by_budget(points, None, tmp_path, "score")
    assert whole.read_bytes() != part.read_bytes()
    assert is_drawn(part)


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (41.2, 44.0, (30, 50)),  # three points stay three of twenty
        (1.0, 3.0, (0, 20)),
        (97.0, 100.0, (80, 100)),
        (31.0, 58.0, (30, 60)),
        (20.0, 71.0, (0, 100)),
    ],
)
def test_an_axis_of_scores_shows_no_small_step_as_a_collapse(low: float, high: float, shown: tuple[int, int]) -> None:
    assert limits(low, high) == shown


@pytest.mark.parametrize(
    ("scores", "shown"),
    [
        ((0.30, 0.30, 0.60), [(30, 60), (30, 60)]),
        # Far apart they share the number of points, that of the one that needs the most.
        ((0.10, 0.35, 0.90), [(10, 35), (75, 100)]),
        ((0.10, 0.80, 0.90), [(0, 100), (0, 100)]),
    ],
)
def test_in_panels_of_one_measure_a_point_is_as_high(
    scores: tuple[float, ...], shown: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last, other = scores
    for task, metric, ends in (("qasper", "F1", (first, last)), ("trec", "F1", (other,)), ("qmsum", "ROUGE-L", (0.2,))):
        for budget, score in zip((64, 128), (ends[0], ends[-1]), strict=True):
            rows = [example(i, False, task=task, budget=budget, score=score) for i in range(5)]
            told = {"metric": metric, "question": "text"}
            write_cell(tmp_path, "mage", budget, rows, task=f"longbench/{task}", told=told)
    drawn: list[Figure] = []
    monkeypatch.setattr("analysis.figures.accuracy.save", lambda figure, folder, name: drawn.append(figure))
    points = compare(load([tmp_path])).points
    accuracy_by_budget(points, None, tmp_path, "a")
    accuracy_by_density(points, None, tmp_path, "b")
    assert len(drawn) == 2
    for figure in drawn:
        scales = {axis.get_title().split()[0]: axis.get_ylim() for axis in figure.axes if axis.get_title()}
        for task, (floor, top) in zip(("qasper", "trec", "qmsum"), [*shown, (10, 30)], strict=True):
            assert scales[task] == pytest.approx((floor - 0.04 * (top - floor), top + 0.04 * (top - floor)))


def test_few_examples_are_drawn_without_an_interval(tmp_path: Path) -> None:
    for method, budget in (("dense", None), ("mage", 64)):
        write_cell(tmp_path, method, budget, [example(0, True, budget=budget)], told={"metric": "F1"})
    [path] = accuracy_by_budget(compare(load([tmp_path])).points, None, tmp_path / "figures", "a")
    assert is_drawn(path)


@pytest.mark.parametrize(
    ("lengths", "shown"),
    [
        ([512, 2048, 8192], ["512", "2048", "8192"]),
        ([4000, 8192, 32768, 131072], ["4k", "8.2k", "32.8k", "131.1k"]),
    ],
)
def test_lengths_on_an_axis_have_one_style(lengths: list[float], shown: list[str]) -> None:
    assert tokens(lengths) == shown


@pytest.mark.parametrize(
    ("task", "tasks", "shown"),
    [
        ("niah", ["niah", "kv"], "niah"),
        ("ruler/vt", ["ruler/vt", "ruler/cwe"], "vt"),
        ("ruler/vt", ["ruler/vt", "longbench/qasper"], "ruler/vt"),
        (
            "longbench/passage_retrieval_en (sample; YaRN x4)",
            ["longbench/passage_retrieval_en (sample; YaRN x4)"],
            "passage_retrieval_en (sample; YaRN\nx4)",
        ),
    ],
)
def test_a_panel_of_a_benchmark_has_the_tasks_own_name(task: str, tasks: list[str], shown: str) -> None:
    assert title(task, tasks) == shown


def test_recall_is_the_mean_over_all_recorded_layers(sweep: Path, tmp_path: Path) -> None:
    rows = recall_rows(load([sweep]))
    means = step_means(rows)
    assert list(means.index) == list(range(1, 9))
    # Layers 1 to 3 hold 1 - 0.01 * step * layer - 0.002 * (i % 5), layer 0 holds 0.5; six examples.
    assert means.loc[4, "mean"] == pytest.approx((0.5 + 3 * (1 - 0.08 - 0.002 * 10 / 6)) / 4)
    assert means.loc[4, "low"] < means.loc[4, "mean"] < means.loc[4, "high"]
    [path] = recall_by_step(rows, tmp_path, "recall")
    assert is_drawn(path)


def test_an_example_of_many_blocks_weighs_as_one_of_few(tmp_path: Path) -> None:
    one = {"step": 1, "layer": 0, "recall": 1.0, "mass_captured": 1.0, "oracle_mass": 1.0}
    content = {"id": "long", "prefix_tokens": 1024, "budget_tokens": 64}
    long = RecallResult.model_validate({**content, "rows": [{"block": block, **one} for block in range(1, 10)]})
    write_cell(tmp_path, "mage", 64, [long, recall_result(1, layers=1, steps=1)], runner="recall")
    assert step_means(recall_rows(load([tmp_path]))).loc[1, "mean"] == 0.75


def test_recall_of_one_example_under_several_seeds_weighs_as_one(tmp_path: Path) -> None:
    one = {"block": 1, "step": 1, "layer": 0, "recall": 1.0, "mass_captured": 1.0, "oracle_mass": 1.0}
    for seed in range(3):
        fixed = {"id": "fixed", "prefix_tokens": 1024, "budget_tokens": 64, "rows": [one]}
        own = {**fixed, "id": f"other-{seed}", "rows": [{**one, "recall": 0.2}]} if seed == 0 else None
        rows = [RecallResult.model_validate(content) for content in (fixed, own) if content]
        write_cell(tmp_path, "mage", 64, rows, runner="recall", seed=seed)
    assert step_means(recall_rows(load([tmp_path]))).loc[1, "mean"] == pytest.approx(0.6)


def test_reading_needs_no_plotting_library_and_no_torch() -> None:
    heavy = "[name for name in ('matplotlib', 'torch', 'hydra') if name in sys.modules]"
    code = f"import sys, analysis.__main__, analysis.regression; print({heavy})"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
