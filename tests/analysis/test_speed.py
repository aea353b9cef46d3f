"""Speed: tables and figure of made contests, whose seconds are known."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from analysis.__main__ import main
from analysis.figures.speed import speedup_by_context
from analysis.frame import load
from analysis.speed_table import speed_points, speed_tables
from mage.timing.bound import Bound
from mage.timing.roofs import Roofs
from mage.timing.rounds import Conditions, Round, Timed
from mage.timing.side import Side
from mage.timing.summary import metrics_of
from runners.latency_result import LatencyResult
from tests.analysis.synthetic import write_cell

NOISE = (1.0, 1.02, 0.98, 1.04, 0.96, 1.01)


def side(seconds: float, forwards: dict[str, float], reads: float) -> Side:
    """A block of `seconds` whose forwards take equally long."""
    total = sum(forwards.values())
    parts = {kind: seconds * count / total for kind, count in forwards.items()} | {"selection": 0.0}
    return Side(
        elapsed=seconds,
        forwards=forwards,
        seconds=parts,
        reads=reads,
        dense_reads=100.0,
        tokens=32.0,
        peak_bytes=2e9,
    )


def write_contest(
    folder: Path,
    method: str,
    context: int,
    speedup: float,
    *,
    batch: int = 1,
    rounds: int = 6,
    options: dict[str, Any] | None = None,
) -> Path:
    """A cell in which dense takes a second a block and the method `speedup` times less, of a bound of twice that."""
    exact = {"exact": 32.0, "sparse": 0.0, "commit": 1.0}
    sparse = exact if method == "dense" else {"exact": 1.0, "sparse": 31.0, "commit": 1.0}
    conditions = Conditions(
        context=context,
        batch=batch,
        block_size=32,
        roofs=Roofs(1e12, 1e14),
        attention="triton",
        captured=True,
        dense_attention={"triton": 0.010, "torch SDPA": 0.009},
        prefill_seconds=2.0,
        prefill_flops=1e14,
        prefill_peak_bytes=3e9,
        selects_each_step=method == "quest",
    )
    timed = [
        Timed(
            Round(side(n, exact, 100.0), side(1 / speedup, sparse, 20.0), empty_step=0.005),
            Bound(exact=0.02, selection=None, sparse=None, commit=0.02, block=0.5),
            Bound(exact=0.02, selection=0.0, sparse=0.02 / speedup, commit=0.02, block=0.25 / speedup),
        )
        for n in NOISE[:rounds]
    ]
    rows = [
        LatencyResult(
            id=f"round-{i:03d}", round=t.round, dense_bound=t.dense, method_bound=t.method, conditions=conditions
        )
        for i, t in enumerate(timed)
    ]
    return write_cell(
        folder,
        method,
        None if method == "dense" else 512,
        rows,
        task=f"context {context} batch {batch}",
        runner="latency",
        metrics=metrics_of(conditions, timed),
        config={"runner": {"name": "latency", "context": context, "batch": batch, **(options or {})}},
        told={"question": "", "metric": ""},
    )


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
    assert (mage["bound"], mage["of bound"]) == ("8.00", "50 %")
    assert mage["over best"] == f"{(1.005 - 33 * 0.001) * 4:.2f}"
    assert (mage["best dense"], mage["attention"], mage["forwards"]) == ("torch SDPA", "triton, graphs", "33")
    assert (mage["tok/s"], mage["memory"]) == ("128", "3.00 GB")
    assert shown.iloc[2]["speed-up"] == "1.11"  # two rounds have no interval
    assert list(shown.iloc[6][["dense ms", "ms", "speed-up", "memory"]]) == ["out of memory", "—", "—", "—"]
    assert "1000 GB/s, 100 TFLOP/s" in blocks.caption
    step = steps.cells.iloc[4]
    assert (step["faster"], step["bound"], step["prefill s"], step["matrix rate"]) == ("4.02", "4.00", "2", "50 %")
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
