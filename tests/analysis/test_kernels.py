"""Kernels: table, figure and report of made timings, whose seconds are known."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from analysis.__main__ import main
from analysis.figures.kernels import roof_shares
from analysis.frame import load
from analysis.kernel_frame import kernel_points, read_kernels
from analysis.kernel_table import kernel_table
from mage.errors import UserError
from mage.timing import kernel_report, kernel_suite
from mage.timing.roofs import Roofs
from runners import kernel_record
from tests.analysis.synthetic import ENVIRONMENT, write_answers

BANDWIDTH, RATE = 2e12, 4e14  # bytes and operations a second
NAME = "kernels_sdar_triton_bfloat16_0123abcd.json"


def timing(
    kernel: str, implementation: str, context: int, batch: int, seconds: float | None, **others: Any
) -> dict[str, Any]:
    """A kernel that moves a megabyte an entry and row, and does 100 operations for each of these bytes; a prefill
    does 1000."""
    moved = 1e6 * context * batch
    flops = moved * (1000 if kernel == "prefill" else 100)
    least = max(moved / BANDWIDTH, flops / RATE)
    timed = None if seconds is None else 1.0
    return {
        "kernel": kernel,
        "implementation": implementation,
        "context": context,
        "batch": batch,
        "bytes": moved,
        "flops": flops,
        "roof": "matrix" if kernel == "prefill" else "bandwidth",
        "runs": 0 if seconds is None else 20,
        "seconds": seconds,
        "spread": timed and 0.05 * (seconds or 0),
        "gb_per_second": timed and moved / (seconds or 1) / 1e9,
        "tflops_per_second": timed and flops / (seconds or 1) / 1e12,
        "share": timed and least / (seconds or 1),
        "relative_error": timed and 0.002,
        "failure": None if timed else "RuntimeError: no\x1b[31m <b>",
        **others,
    }


TIMINGS = [
    timing("dense", "triton", 2048, 1, 2e-3),  # 1024 us at the roof
    timing("dense", "torch SDPA", 2048, 1, 1.5e-3),
    timing("dense", "FlashInfer", 2048, 1, 4e-3),
    timing("dense", "flash-attn", 2048, 1, None, failure="ModuleNotFoundError: No module named 'flash_attn'"),
    timing("gather", "triton", 2048, 1, None),
    timing("prefill", "triton", 2048, 1, 10.24e-3, relative_error=0.5),  # 5120 us at the roof
    timing("prefill", "torch SDPA, causal", 2048, 1, 6.4e-3, relative_error=None),
    timing("dense", "triton", 1024, 8, 8.192e-3, relative_error=None),  # 4096 us at the roof
]


def write_kernels(
    folder: Path, name: str = NAME, timings: list[dict[str, Any]] | None = None, **others: Any
) -> dict[str, Any]:
    """A record as runner=kernels writes it."""
    content = {
        "runner": "kernels",
        "config": {
            "model": {"name": "sdar", "dtype": "bfloat16", "block_size": 32},
            "runner": {"page_size": 16},
            "budget": 512,
        },
        "environment": ENVIRONMENT.model_dump() | {"attention": "triton", "device": "H100", "threads": 16},
        "roofs": {"bytes_per_second": BANDWIDTH, "flops_per_second": RATE},
        "timings": TIMINGS if timings is None else timings,
        "wrong": ["gather/triton/2048x1", "prefill/triton/2048x1"],
        "too_large": ["131072x8"],
        **others,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    return content


def suite(model: str, attention: str = "triton") -> dict[str, Any]:
    """What the record of the speed suite tells instead of a config."""
    environment = ENVIRONMENT.model_dump() | {"attention": attention, "capture": True}
    return {"config": {}, "model": model, "context": 2048, "environment": environment}


def test_the_schema_has_the_fields_that_are_written() -> None:
    written = [field.name for field in fields(kernel_suite.KernelTiming)]
    assert list(kernel_record.KernelTiming.model_fields) == written
    told = set(kernel_record.KernelRecord.model_fields) - {"runner", "environment", "config", "model", "context"}
    assert told == set(kernel_report.KernelReport("torch", torch.float32, Roofs(BANDWIDTH, RATE), [], []).record())


def test_the_table_shows_times_rates_roofs_and_others_beside_ours(tmp_path: Path) -> None:
    write_kernels(tmp_path)
    table = kernel_table(kernel_points(read_kernels([tmp_path])))
    shown = table.cells
    assert list(zip(shown.kernel, shown.context, shown.batch, shown.implementation)) == [
        ("dense", "1024", "8", "triton"),
        ("dense", "2048", "1", "triton"),
        ("dense", "2048", "1", "torch SDPA"),
        ("dense", "2048", "1", "FlashInfer"),
        ("gather", "2048", "1", "triton"),
        ("prefill", "2048", "1", "triton"),
        ("prefill", "2048", "1", "torch SDPA, causal"),
    ]
    rows = [dict(row) for _, row in shown.iterrows()]
    assert rows[1] == {
        "kernel": "dense",
        "context": "2048",
        "batch": "1",
        "implementation": "triton",
        "ms": "2",
        "spread": "0.1",
        "GB/s": "1024",
        "TFLOP/s": "102",
        "of roof": "51.2 %",
        "roof": "bandwidth",
        "error": "2.0e-03",
        "over best": "0.75 (torch SDPA)",
    }
    assert [row["over best"] for row in rows] == [
        "—",
        "0.75 (torch SDPA)",
        "—",
        "—",
        "—",
        "0.62 (torch SDPA, causal)",
        "—",
    ]
    assert [row["of roof"] for row in rows] == ["50 %", "51.2 %", "68.3 %", "25.6 %", "—", "50 %", "80 %"]
    assert [row["error"] for row in rows] == ["—", *["2.0e-03"] * 3, "—", "5.0e-01 wrong", "—"]
    assert (rows[4]["ms"], rows[4]["GB/s"], rows[4]["roof"]) == ("failed", "—", "bandwidth")
    assert {row["roof"] for row in rows[5:]} == {"matrix"}
    for told in (
        "Not timed: flash-attn: ModuleNotFoundError",
        "Model sdar, dtype bfloat16, block size 32, budget 512, page size 16. Device: H100, 16 threads.",
        "Roofs measured in the same run: 2000 GB/s, 400 TFLOP/s.",
    ):
        assert told in table.caption
    assert list(table.numbers.seconds.dropna()) == [8.192e-3, 2e-3, 1.5e-3, 4e-3, 10.24e-3, 6.4e-3]


def test_records_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    for budget in (512, 64):
        config = {"model": {"name": "sdar", "dtype": "bfloat16"}, "budget": budget}
        write_kernels(tmp_path / "budgets", f"kernels_sdar_triton_bfloat16_{budget:08}.json", config=config)
    points = kernel_points(read_kernels([tmp_path / "budgets"]))
    assert list(dict.fromkeys(points.setting)) == ["budget 64", "budget 512"]
    write_kernels(tmp_path / "models", "kernels_b_triton_float16.json", **suite("b"))
    write_kernels(tmp_path / "models", "kernels_a_bfloat16_torch_float32.json", **suite("a_bfloat16", "torch"))
    points = kernel_points(read_kernels([tmp_path / "models"]))
    assert list(dict.fromkeys(points.setting)) == ["a_bfloat16, float32, torch", "b, float16, triton"]
    assert not points[points.attention == "torch"].ours.any()  # none of its timings is of torch
    for folder, started in (("one", "2026-01-01T00:00:00+00:00"), ("two", "2026-01-02T00:00:00+00:00")):
        environment = ENVIRONMENT.model_dump() | {"attention": "triton", "started": started}
        write_kernels(tmp_path / folder, environment=environment)
    points = kernel_points(read_kernels([tmp_path / "one", tmp_path / "two"]))
    assert points.setting.nunique() == 2 and all(text.startswith("started 2026-01-0") for text in points.setting)


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
    assert told[0] == "triton (this project)" and "80 %: target" in told and "flash-attn" not in told
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


def test_beyond_the_roof_is_still_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_kernels(tmp_path, timings=[timing("dense", "triton", 2048, 1, 0.5e-3)])
    [axis] = drawn(tmp_path, monkeypatch).axes
    assert axis.get_xlim()[1] > 204.8


def test_a_folder_of_kernels_alone_has_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_kernels(tmp_path / "timed")
    digests = set()
    for run in ("a", "b"):
        assert main([str(tmp_path / "timed"), "--out", str(tmp_path / run)]) == 0
        picture = (tmp_path / run / "figures" / "kernels-of-roof.png").read_bytes()
        digests.add(hashlib.sha256(picture + (tmp_path / run / "report.html").read_bytes()).hexdigest())
    assert len(digests) == 1
    printed = capsys.readouterr()
    last = json.loads(printed.out.splitlines()[-1])
    assert (last["cells"], last["kernels"]) == (0, 1) and printed.err == "" and "| dense" in printed.out
    text = (tmp_path / "a" / "report.md").read_text()
    assert text.startswith("# Speed under a KV budget: timed") and "1 record of timed kernels." in text
    assert "Failed: gather (triton; context 2048, batch 1): RuntimeError: no\\\\x1b[31m \\<b\\>" in text
    assert "Wrong: prefill (triton; context 2048, batch 1) differs from its float32 reference by 5.0e-01." in text
    assert f"Out of memory, so not timed (context x batch): 131072x8 ({NAME})." in text
    assert "Accuracy" not in text and "bootstrap" not in text and "0 cells" not in text
    assert "<b>" not in (tmp_path / "a" / "report.html").read_text()
    assert {path.name for path in (tmp_path / "a" / "tables").iterdir()} == {
        f"kernels.{e}" for e in ("md", "csv", "tex")
    }


def test_kernels_stand_beside_cells(tmp_path: Path) -> None:
    write_answers(tmp_path, "dense", None, lambda i: True, count=4)
    write_kernels(tmp_path)
    assert main([str(tmp_path)]) == 0
    text = (tmp_path / "analysis" / "report.md").read_text()
    assert "## Speed of kernels" in text and "1 cell: 1 done. 4 answers." in text
    assert text.startswith("# Accuracy") and "Device: H100, cpu" in text


def test_where_nothing_could_be_timed_there_is_a_table_and_no_figure(tmp_path: Path) -> None:
    write_kernels(tmp_path, timings=TIMINGS[4:5])
    assert main([str(tmp_path)]) == 0
    assert not (tmp_path / "analysis" / "figures").exists()
    assert "failed" in (tmp_path / "analysis" / "tables" / "kernels.md").read_text()


def test_a_shape_without_memory_is_told_where_there_is_nothing_else(tmp_path: Path) -> None:
    write_kernels(tmp_path, timings=[], wrong=[])
    assert main([str(tmp_path)]) == 0
    text = (tmp_path / "analysis" / "report.md").read_text()
    assert "131072x8" in text and "|" not in text


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"roofs": {"bytes_per_second": 1.0}}, "roofs.flops_per_second"),
        ({"timings": [TIMINGS[0] | {"roof": "cache"}]}, "timings.0.roof"),
        ({"timings": [TIMINGS[0] | {"seconds": "soon"}]}, "timings.0.seconds"),
        ({"environment": {}}, "environment.git_commit"),
        ({"more": 1}, "more"),
    ],
)
def test_what_is_no_record_is_refused_by_file_and_field(
    change: dict[str, Any], field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_kernels(tmp_path, **change)
    assert main([str(tmp_path)]) == 2
    assert f"{NAME}: field {field}: " in capsys.readouterr().err


def test_records_of_kernels_are_no_cells(tmp_path: Path) -> None:
    write_kernels(tmp_path)
    with pytest.raises(UserError, match=r"no record.json"):
        load([tmp_path])  # as the gate reads results


def test_kernels_are_drawn_without_torch(tmp_path: Path) -> None:
    write_kernels(tmp_path)
    program = "import sys; from analysis.__main__ import main; "
    program += "sys.exit(main([sys.argv[1]]) or 3 * ('torch' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.DEVNULL).returncode == 0
