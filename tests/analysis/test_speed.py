"""Speed: tables and figure of made contests, whose seconds are known."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from analysis.__main__ import main
from analysis.figures.speed import speedup_by_context
from analysis.frame import load
from analysis.speed_table import extremes, speed_points, speed_tables
from tests.analysis.contests import write_contest
from tests.analysis.synthetic import write_cell


@pytest.fixture(scope="module")
def contests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two contexts in two batches; one cell out of memory."""
    folder = tmp_path_factory.mktemp("outputs") / "speed"
    for batch in (1, 8):
        for context, speedup in ((8192, 1.25), (131072, 4.0)):
            write_contest(folder, "mage", context, speedup, batch=batch)
    write_contest(folder, "dense", 8192, 1.0)
    write_contest(folder, "quest", 8192, 1.1, rounds=2)
    write_cell(
        folder,
        "quest",
        512,
        [],
        task="context 131072 batch 8",
        runner="latency",
        status="out_of_memory",
        error="torch.OutOfMemoryError: no",
        config={"runner": {"name": "latency", "context": 131072, "batch": 8}},
    )
    return folder


def test_the_table_of_blocks_shows_ratio_interval_and_bound(contests: Path) -> None:
    blocks, steps = speed_tables(speed_points(load([contests])))
    shown = blocks.cells
    assert list(zip(shown.context, shown.batch, shown.method)) == [
        ("8192", "1", "dense"),
        ("8192", "1", "mage"),
        ("8192", "1", "quest"),
        ("8192", "8", "mage"),
        ("131072", "1", "mage"),
        ("131072", "8", "mage"),
        ("131072", "8", "quest"),
    ]
    mage = shown.iloc[4]
    assert (mage["dense ms"], mage["ms"]) == ("1005", "250")
    assert mage["speed-up"] == "4.02 [3.84, 4.16]"
    assert (mage["bound"], mage["dense of roof"], mage["of roof"]) == ("8.00", "50 %", "25 %")
    assert mage["over best"] == f"{(1.005 - 33 * 0.001) * 4:.2f}"
    assert (mage["best dense"], mage["attention"], mage["forwards"]) == ("torch SDPA", "triton, graphs", "33")
    assert (mage["tok/s"], mage["memory"]) == ("128", "3.00 GB")
    assert shown.iloc[2]["speed-up"] == "1.11"  # two rounds have no interval
    assert list(shown.iloc[6][["dense ms", "ms", "speed-up", "memory"]]) == ["out of memory", "—", "—", "—"]
    assert "1000 GB/s, 100 TFLOP/s" in blocks.caption
    assert "(not timed everywhere: FlashInfer: ModuleNotFoundError: no)" in blocks.caption
    assert "The first 3 blocks of each generation" in blocks.caption and "on 96 entries" in steps.caption
    assert shown.iloc[5]["attention"] == "triton, graphs, captured on the clock"
    assert shown.iloc[2]["attention"] == "triton, graphs without dense"
    step = steps.cells.iloc[4]
    assert (step["faster"], step["bound"], step["prefill s"], step["matrix rate"]) == ("4.02", "4.00", "2", "50 %")
    assert (step["selection ms"], step["dense warm-up ms"], step["warm-up ms"]) == ("—", "2010", "500")
    assert steps.cells.iloc[5]["prefill s"] == "2 (1 of 8 rows)"
    assert steps.cells.iloc[0]["sparse ms"] == "—"
    assert blocks.numbers.speedup.iloc[4] == pytest.approx(4.02)


def test_the_figure_has_a_panel_a_batch_and_does_not_change(contests: Path, tmp_path: Path) -> None:
    points = speed_points(load([contests]))
    digests = set()
    for run in ("a", "b"):
        [png] = speedup_by_context(points, tmp_path / run, "speed")
        digests.add(hashlib.sha256(png.read_bytes()).hexdigest())
    assert len(digests) == 1 and imread(png).std() > 0.02
    assert png.with_suffix(".pdf").is_file()
    assert speedup_by_context(points[points.method == "dense"], tmp_path, "none") == []


def test_lines_end_where_a_method_was_not_timed(
    contests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.axes import Axes

    drawn: dict[str, list[float]] = {}
    errorbar = Axes.errorbar

    def spy(self: Axes, x: Any, y: Any, **options: Any) -> Any:
        drawn.setdefault(options["label"], []).extend(np.asarray(y, dtype=float))
        return errorbar(self, x, y, **options)

    monkeypatch.setattr(Axes, "errorbar", spy)
    speedup_by_context(speed_points(load([contests])), tmp_path, "speed")
    assert drawn["mage"] == pytest.approx([1.25625, 4.02, 1.25625, 4.02])
    assert drawn["quest"][0] == pytest.approx(1.111) and np.isnan(drawn["quest"][1:]).all()


def test_ways_of_running_tell_methods_apart(tmp_path: Path) -> None:
    for context in (8192, 16384):
        for overlap in (True, False):
            options = {"overlap": overlap, "timeout_s": context}
            write_contest(tmp_path / "ways", "mage", context, 2.0 + overlap, options=options)
    points = speed_points(load([tmp_path / "ways"]))
    assert list(points.method) == ["mage (overlap=false)", "mage (overlap=true)"] * 2
    assert list(points.speedup) == pytest.approx([2.01, 3.015] * 2)


def test_graphs_tell_methods_apart(tmp_path: Path) -> None:
    for capture in (True, False):
        write_contest(tmp_path / "ways", "mage", 8192, 2.0 + capture, capture=capture)
    points = speed_points(load([tmp_path / "ways"]))
    assert dict(zip(points.method, points.speedup)) == pytest.approx(
        {"mage (capture=false)": 2.01, "mage (capture=true)": 3.015}
    )


def test_fused_commits_are_named_in_all_cells_of_a_mix(tmp_path: Path) -> None:
    """Not only where one method ran both ways."""
    write_contest(tmp_path / "ways", "mage", 8192, 2.0, fuse_commit=True)
    write_contest(tmp_path / "ways", "quest", 8192, 1.5)
    points = speed_points(load([tmp_path / "ways"]))
    assert list(points.method) == ["mage (fuse_commit=true)", "quest (fuse_commit=false)"]
    assert "fuse_commit=true" not in speed_tables(points)[0].caption


def test_commits_that_one_side_fused_are_no_other_decisions(tmp_path: Path) -> None:
    for method in ("dense", "mage", "quest"):
        write_contest(tmp_path / "fused", method, 8192, 2.0, fuse_commit=True)
    blocks, steps = speed_tables(speed_points(load([tmp_path / "fused"])))
    assert "All with fuse_commit=true" in blocks.caption
    assert list(blocks.cells.method) == ["dense", "mage", "quest"]
    assert list(blocks.cells.forwards) == ["32", "32", "32 / 32 + 1"]
    found = steps.cells.set_index("method")
    each = f"{1e3 * 1.005 / 32:.4g}"
    assert list(found["dense exact + commit ms"]) == list(found["dense ms"]) == [each] * 3
    assert list(found["exact + commit ms"]) == [f"{1e3 / 2 / 32:.4g}"] * 2 + ["—"]
    assert list(found["first step"]) == ["—"] * 3


def test_without_fused_commits_nothing_is_said_of_them(contests: Path) -> None:
    for table in speed_tables(speed_points(load([contests]))):
        assert "exact + commit" not in table.caption and "fuse_commit" not in table.caption
        assert not [column for column in table.cells if "exact + commit" in str(column)]


def drawn_by(points: pd.DataFrame, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Figure:
    figures: list[Figure] = []
    monkeypatch.setattr("analysis.figures.speed.save", lambda figure, *_: figures.append(figure))
    speedup_by_context(points, folder, "speed")
    return figures[0]


def test_seeds_are_told_apart_in_table_and_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in (0, 1):
        write_contest(tmp_path / "seeds", "mage", 8192, 2.0 + seed, seed=seed)
        write_contest(tmp_path / "seeds", "dense", 8192, 1.0, seed=seed)
    points = speed_points(load([tmp_path / "seeds"]))
    shown = speed_tables(points)[0].cells
    assert list(shown.method) == ["dense (seed=0)", "dense (seed=1)", "mage (seed=0)", "mage (seed=1)"]
    figure = drawn_by(points, tmp_path, monkeypatch)
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries == ["mage (seed=0)", "mage (seed=1)", "bound", "over best dense"]


def test_cells_that_share_a_point_are_all_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_contest(tmp_path / "one", "mage", 8192, 2.0)
    points = speed_points(load([tmp_path / "one"]))
    twice = pd.concat([points, points.assign(speedup=9.0, speedup_low=9.0, speedup_high=9.0)])
    [axis] = drawn_by(twice, tmp_path, monkeypatch).axes
    heights = [y for line in axis.lines for y in np.asarray(line.get_ydata(), dtype=float)]
    assert {2.01, 9.0} <= {round(y, 4) for y in heights}
    assert axis.get_ylim() == pytest.approx((0, 1.08 * 9))


def test_one_context_has_its_bound_and_a_legend_takes_no_room_from_the_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def height(folder: str, names: int) -> float:
        for number in range(names):
            write_contest(tmp_path / folder, "mage", 8192, 2.0, options={"check_every": number + 1})
        figure = drawn_by(speed_points(load([tmp_path / folder])), tmp_path, monkeypatch)
        figure.draw_without_rendering()
        [axis] = figure.axes
        assert len(figure.legends[0].get_texts()) == names + 2
        bounds = [line for line in axis.lines if (line.get_marker(), line.get_linestyle()) == ("_", "--")]
        assert [y for line in bounds for y in line.get_ydata()] == pytest.approx([4.0] * names)
        return float(axis.get_window_extent().height)

    assert height("many", 14) > 0.9 * height("few", 2)


@pytest.mark.parametrize("contexts", [(8192,), (8192, 131072)])
def test_markers_of_a_prefix_stand_near_its_tick_and_hollow_ones_beside_full_ones(
    contexts: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = ("mage", "quest", "snapkv")
    for method in methods:
        for context in contexts:
            write_contest(tmp_path / "near", method, context, 2.0)
    [axis] = drawn_by(speed_points(load([tmp_path / "near"])), tmp_path, monkeypatch).axes
    low, high = np.log2(axis.get_xlim())
    at: dict[bool, set[float]] = {True: set(), False: set()}
    for line in axis.lines:
        if line.get_marker() in ("o", "s", "^") and len(line.get_xdata()):
            place = float(np.log2(np.asarray(line.get_xdata(), dtype=float)[0]) - 13) / (high - low)
            at[line.get_markerfacecolor() == "white"].add(round(place, 6))
    assert len(at[True]) == len(at[False]) == 3 and not at[True] & at[False]
    assert max(map(abs, at[True] | at[False])) < 0.1
    assert max(at[True]) + min(at[False]) == pytest.approx(0, abs=1e-5), "the group stands around its tick"


def test_a_variant_keeps_the_colour_of_its_method_in_a_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (6, 7):
        write_contest(tmp_path / "ways", "mage", 8192, 2.0, options={"rounds": count})
    [axis] = drawn_by(speed_points(load([tmp_path / "ways"])), tmp_path, monkeypatch).axes
    lines = [line for line in axis.lines if line.get_marker() == "o" and line.get_markerfacecolor() != "white"]
    looks = {(line.get_color(), line.get_fillstyle(), line.get_linestyle()) for line in lines if len(line.get_xdata())}
    assert {(color, fill) for color, fill, _ in looks} == {("#D55E00", "full"), ("#D55E00", "left")}
    assert len({dash for _, _, dash in looks}) == 2


@pytest.mark.parametrize(
    ("counts", "told"),
    [([2, 5], ""), ([5, 6], " (of 6 rounds"), ([8, 6, 6], " (of 6 or 8 rounds"), ([9, 12], "")],
)
def test_an_interval_that_is_all_ratios_is_told(counts: list[int], told: str) -> None:
    """Of six to eight rounds 95 % need every one: without both ends 2 * (1 + n) / 2 ** n lies outside."""
    points = pd.DataFrame({"rounds": [*map(float, counts), np.nan]})
    assert extremes(points) == (f"{told}: from the smallest to the largest ratio)" if told else "")


def test_the_interval_of_six_rounds_is_told_in_table_and_figure(tmp_path: Path) -> None:
    write_contest(tmp_path / "six", "mage", 8192, 2.0)
    assert main([str(tmp_path / "six")]) == 0
    text = (tmp_path / "six" / "analysis" / "report.md").read_text()
    told = [line for line in text.splitlines() if "(of 6 rounds: from the smallest to the largest ratio)" in line]
    assert [line.partition(" ")[0] for line in told if not line.startswith("!")] == ["*Speed-up", "Time"]


def test_the_report_of_speed_alone(contests: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(contests), "--out", str(tmp_path)]) == 0
    assert "4.02 [3.84, 4.16]" in capsys.readouterr().out
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# Speed under a KV budget: speed")
    assert "bootstrap" not in text and "Accuracy" not in text
    names = {path.name for path in (tmp_path / "tables").iterdir()} | {p.name for p in (tmp_path / "figures").iterdir()}
    assert {"speed.csv", "speed.tex", "speed-steps.md", "speed-by-context.png"} <= names


def test_records_of_speed_are_read_without_torch(contests: Path) -> None:
    program = "import sys; from analysis.frame import load; load([__import__('pathlib').Path(sys.argv[1])]); "
    program += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program, str(contests)], check=False).returncode == 0
