"""The report of records of kernels: what is told of them, and which are refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from analysis.__main__ import main
from analysis.frame import load
from mage.errors import UserError
from tests.analysis.kernel_records import NAME, TIMINGS, suite, timing, write_kernels
from tests.analysis.synthetic import write_answers


def test_what_stands_in_the_report_stands_there_once(tmp_path: Path) -> None:
    for attention in ("torch", "triton"):
        timings = [timing("dense", attention, 2048, 1, 2e-3, relative_error=0.5)]
        others = suite("sdar", attention) | {"wrong": [f"dense/{attention}/2048x1"]}
        write_kernels(tmp_path, f"kernels_sdar_{attention}_bfloat16.json", timings, **others)
    assert main([str(tmp_path)]) == 0
    text = (tmp_path / "analysis" / "report.md").read_text()
    assert "Wrong: dense (torch; context 2048, batch 1) differs" in text
    assert text.count("Roofs measured in the same runs") == text.count("Broken line") == 1
    assert "![Share of the nearer roof that single kernels reach, from cold caches: the least" in text


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
    assert (last["cells"], last["kernel_records"], last["wrong_kernels"]) == (0, 1, 2)
    assert printed.err == "" and "| dense" in printed.out
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


def test_what_is_above_a_roof_is_marked_and_noted_under_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_kernels(tmp_path, timings=[timing("dense", "triton", 2048, 1, 0.5e-3)], wrong=[])
    assert main([str(tmp_path)]) == 0
    folder = tmp_path / "analysis"
    told = [capsys.readouterr().out, (folder / "report.md").read_text(), (folder / "report.html").read_text()]
    told += [(folder / "tables" / name).read_text() for name in ("kernels.md", "kernels.tex")]
    for text in told:
        mark = text.find("205 %†" if "205 %†" in text else r"205 \%\textdagger")
        assert 0 < mark < text.find("something disturbed them")
    assert "Shares beyond 120 % are cut" in told[1]


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
