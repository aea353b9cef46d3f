"""Kernels: the frame and the table of made timings, and how both follow from what is timed."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path

import torch

from analysis.figures.kernels import OTHERS
from analysis.kernel_frame import RIVALS, kernel_points, read_kernels
from analysis.kernel_table import kernel_table
from mage.attention.torch_operations import TorchOperations
from mage.budget import Budget
from mage.models.families.registry import body_config
from mage.timing import kernel_report, kernel_suite
from mage.timing.kernel_cases import KERNELS, POSITION_MAJOR
from mage.timing.kernel_shape import KernelShape, Operands
from mage.timing.roofs import Roofs
from runners import kernel_record
from tests.analysis.kernel_records import BANDWIDTH, RATE, suite, write_kernels
from tests.analysis.synthetic import ENVIRONMENT
from tests.conftest import CONFIG


def test_the_schema_has_the_fields_that_are_written() -> None:
    written = [field.name for field in fields(kernel_suite.KernelTiming)]
    assert list(kernel_record.KernelTiming.model_fields) == written
    asked = {"runner", "environment", "config", "model", "dtype", "block_size", "budget", "page_size", "context"}
    told = set(kernel_record.KernelRecord.model_fields) - asked
    assert told == set(kernel_report.KernelReport("torch", torch.float32, Roofs(BANDWIDTH, RATE), [], []).record())


def test_what_is_wrong_is_named_as_the_report_names_it() -> None:
    timed = kernel_suite.KernelTiming("top_k", "triton", 2048, 8, 1.0, 0.0, "bandwidth", failure="no")
    [name] = kernel_report.KernelReport("triton", torch.float32, Roofs(BANDWIDTH, RATE), [timed], []).wrong
    assert kernel_record.KernelTiming.model_validate(asdict(timed)).name == name


def test_the_rivals_are_those_that_are_timed() -> None:
    shape = KernelShape(body=body_config(CONFIG), block_size=8, context=64, batch=1, budget=Budget(16))
    operands, ours = Operands(shape, torch.device("cpu"), torch.float32), TorchOperations()
    timed = {case.implementation for cases in KERNELS.values() for case in cases(operands, ours)}
    assert set(RIVALS) == set(OTHERS) == {*timed, *POSITION_MAJOR} - {ours.name}  # the last ones on a GPU alone


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
        write_kernels(tmp_path / "budgets", f"kernels_sdar_triton_bfloat16_{budget:08}.json", budget=budget)
    points = kernel_points(read_kernels([tmp_path / "budgets"]))
    assert list(dict.fromkeys(points.setting)) == ["budget 64", "budget 512"]
    write_kernels(tmp_path / "models", "kernels_b_triton_float16.json", **suite("b", dtype="float16"))
    named = "kernels_a_bfloat16_torch_float32.json"  # a name tells nothing
    write_kernels(tmp_path / "models", named, **suite("a_float16", "torch", "bfloat16"))
    points = kernel_points(read_kernels([tmp_path / "models"]))
    assert list(dict.fromkeys(points.setting)) == ["a_float16, bfloat16, torch", "b, float16, triton"]
    for folder, started in (("one", "2026-01-01T00:00:00+00:00"), ("two", "2026-01-02T00:00:00+00:00")):
        environment = ENVIRONMENT.model_dump() | {"attention": "triton", "started": started}
        write_kernels(tmp_path / folder, environment=environment)
    points = kernel_points(read_kernels([tmp_path / "one", tmp_path / "two"]))
    assert points.setting.nunique() == 2 and all(text.startswith("started 2026-01-0") for text in points.setting)
