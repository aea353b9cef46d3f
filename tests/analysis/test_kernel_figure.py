"""The figure of kernels, read back from what is drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.__main__ import main
from analysis.figures.kernels import OURS, roof_shares
from analysis.kernel_frame import kernel_points, read_kernels
from analysis.kernel_table import kernel_table
from tests.analysis.kernel_records import TIMINGS, suite, timing, write_kernels


def drawn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Figure:
    figures: list[Figure] = []
    monkeypatch.setattr("analysis.figures.kernels.save", lambda figure, *_: figures.append(figure))
    roof_shares(kernel_points(read_kernels([folder])), folder, "kernels")
    return figures[0]


def test_the_figure_has_a_row_a_shape_below_the_name_of_its_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_kernels(tmp_path)
    figure = drawn(tmp_path, monkeypatch)
    [axis] = figure.axes
    labels = [text.get_text() for text in axis.get_yticklabels()]
    assert labels == ["dense", "1K, batch 8", "2K, batch 1", "gather", "2K, batch 1", "prefill", "2K, batch 1"]
    low, high = axis.get_ylim()
    assert low > high  # the first row is on top
    marks = {
        (float(x), float(y)): (line.get_marker(), line.get_markerfacecolor())
        for line in axis.lines
        if line.get_marker() not in ("", "None")
        for x, y in zip(*np.asarray(line.get_data(), dtype=float), strict=True)
    }
    places = sorted((round(x, 4), y) for x, y in marks)
    assert places == [(25.6, 2), (50, 1), (50, 6), (51.2, 2), (68.2667, 2), (80, 6)]
    assert {look[0] for (x, y), look in marks.items() if round(x, 4) in (50, 51.2)} == {"o"}
    stems = {(line.get_ydata()[0], line.get_linestyle()) for line in axis.lines if list(line.get_xdata())[:1] == [0]}
    assert {y for y, _ in stems} >= {1, 2, 6} and {style for y, style in stems if y in (1, 2)} == {"-"}
    assert next(style for y, style in stems if y == 6) != "-"
    assert any(list(line.get_xdata()) == [80, 80] for line in axis.lines)
    assert sorted((text.get_text(), text.get_position()[1]) for text in axis.texts) == [("failed", 4), ("wrong", 6)]
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == [
        "triton (this project)",
        "torch SDPA",
        "FlashInfer",
        "torch SDPA, causal",
        "80 %: target",
        "nearer roof: bandwidth",
        "nearer roof: matrix rate",
    ]
    assert axis.get_title() == "roofs: 2000 GB/s, 400 TFLOP/s"


def test_a_panel_a_record_and_names_of_kernels_alone_where_all_have_one_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in ("a", "b"):
        write_kernels(tmp_path, f"kernels_{model}_triton_bfloat16.json", TIMINGS[:-1], **suite(model))
    first, second = drawn(tmp_path, monkeypatch).axes
    assert [text.get_text() for text in first.get_yticklabels()] == ["dense", "gather", "prefill"]
    assert [axis.get_title().partition("\n")[0] for axis in (first, second)] == ["a", "b"]
    assert not second.yaxis.get_tick_params()["labelleft"]
    assert first.get_xlim() == second.get_xlim()


def test_beyond_the_roof_is_still_seen_and_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("within", 1.024e-3), ("little", 0.9e-3), ("beyond", 0.5e-3)):
        write_kernels(tmp_path / name, timings=[timing("dense", "triton", 2048, 1, seconds)], wrong=[])
    [axis] = drawn(tmp_path / "little", monkeypatch).axes
    assert 113.7 < axis.get_xlim()[1] <= 120 and not axis.texts, "a share of 113.8 % is on the axis"
    monkeypatch.undo()
    figure = drawn(tmp_path / "beyond", monkeypatch)
    assert figure.axes[0].get_xlim() == (0, 120)
    assert [(text.get_text(), text.get_position()[1]) for text in figure.axes[0].texts] == [("205 %", 0)]
    assert max(float(x) for line in figure.axes[0].lines for x in np.asarray(line.get_xdata())) == 120
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == ["triton (this project)", "80 %: target", "nearer roof: bandwidth"], "only what occurs"
    tables = [kernel_table(kernel_points(read_kernels([tmp_path / name]))) for name in ("within", "beyond")]
    assert ["† Above 100 % of a roof" in table.note for table in tables] == [False, True]
    assert [list(table.cells["of roof"]) for table in tables] == [["100 %"], ["205 %†"]]


def test_several_beyond_the_roof_in_one_row_stand_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timings = [
        timing("dense", name, 2048, 1, s)
        for name, s in (("triton", 0.5e-3), ("torch SDPA", 0.7e-3), ("FlashInfer", 2e-3))
    ]
    write_kernels(tmp_path, timings=timings, wrong=[])
    [axis] = drawn(tmp_path, monkeypatch).axes
    marks = {
        line.get_marker(): float(line.get_xdata()[0]) for line in axis.lines if line.get_marker() in ("o", "s", "v")
    }
    assert marks.pop("v") == pytest.approx(51.2)
    assert marks["s"] < marks["o"] == 120 and marks["s"] > 100
    assert [text.get_text() for text in axis.texts] == ["205 %, 146 %"]


def test_what_this_project_leaves_to_torch_is_its_own_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    timings = [
        timing("dense", "triton", 2048, 1, 2e-3),
        timing("top_k", "torch", 2048, 1, 2.56e-3),  # at 40 % of the roof
        timing("top_k", "torch", 4096, 1, None, failure="OutOfMemoryError: no"),
    ]
    write_kernels(tmp_path, timings=timings, wrong=[], too_large=[])
    figure = drawn(tmp_path, monkeypatch)
    marks = {round(float(line.get_xdata()[0]), 4): line for line in figure.axes[0].lines if line.get_marker() == "o"}
    assert marks.keys() == {40.0, 51.2} and marks[40.0].get_markerfacecolor() == OURS
    assert figure.legends[0].get_texts()[0].get_text() == "torch or triton (this project)"
    monkeypatch.undo()
    assert main([str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["wrong_kernels"] == 1
    text = (tmp_path / "analysis" / "report.md").read_text()
    assert "Failed: top_k (torch; context 4096, batch 1): OutOfMemoryError: no" in text
    assert "Hollow" not in text and "over best" not in text
