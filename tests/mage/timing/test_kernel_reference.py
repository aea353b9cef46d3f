"""Which kernels are compared, and with what; what is faster than its roof."""

from __future__ import annotations

from collections.abc import Collection

import pytest
import torch
from torch import Tensor

from mage.attention.torch_operations import TorchOperations
from mage.timing import kernel_cases, kernel_report
from mage.timing.kernel_report import report_kernels
from mage.timing.kernel_suite import KernelTiming, time_kernels
from mage.timing.roofs import Roofs
from tests.mage.timing.kernel_timings import CPU, ROOFS, shape, timings


class Own(TorchOperations):
    """Operations that are none of the reference's code, and compute the same."""


for _name in ("exact", "sparse", "mass", "gather", "page_bounds", "page_scores", "prefill"):
    setattr(Own, _name, lambda self, *given, _name=_name: getattr(TorchOperations, _name)(self, *given))


def compared(found: Collection[KernelTiming]) -> set[tuple[str, str]]:
    return {(t.kernel, t.implementation) for t in found if t.relative_error is not None}


def test_what_is_not_the_reference_is_compared() -> None:
    found = timings(Own())
    assert compared(found) == {(t.kernel, t.implementation) for t in found} - {("prefill", "torch SDPA, causal")}
    assert all(t.is_right(torch.float32) and t.failure is None for t in found)


def test_the_reference_is_not_compared_with_itself() -> None:
    said: list[str] = []
    report = report_kernels([shape()], TorchOperations(), CPU, torch.float32, runs=3, say=said.append)
    real = {("dense", "torch"), ("dense", "torch SDPA"), ("fused", "torch"), ("sparse", "torch"), ("top_k", "torch")}
    assert compared(report.timings) == real and not report.wrong
    lines = [line for line in said if not line.startswith("roofs")]
    assert {(line[:16].strip(), line[17:35].strip()) for line in lines if " error " in line} == real
    half = list(time_kernels(shape(), TorchOperations(), ROOFS, CPU, torch.bfloat16, runs=3))  # the fused path is none
    assert compared(half) == {("dense", "torch SDPA"), ("top_k", "torch")}


def test_a_wrong_choice_of_entries_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def second(scores: Tensor, budgets: list[int], lengths: list[int]) -> Tensor:
        picks = scores.topk(budgets[0] + 1, -1).indices
        return torch.cat((picks[..., :-2], picks[..., -1:]), -1).sort(-1).values  # the last but one is forgotten

    (right,) = timings(TorchOperations(), ["top_k"], batch=2)
    assert right.relative_error == 0.0
    monkeypatch.setattr(kernel_cases, "top_k", second)
    (wrong,) = timings(TorchOperations(), ["top_k"], batch=2)
    assert not wrong.is_right(torch.bfloat16)


def test_what_is_above_its_roof_is_marked_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = iter([Roofs(1.0, 1.0), Roofs(0.5, 1e18)])
    monkeypatch.setattr(kernel_report, "measure_roofs", lambda *_: next(measured))
    said: list[str] = []
    report = report_kernels(
        [shape()], TorchOperations(), CPU, torch.float32, kernels=["mass", "gather"], runs=3, say=said.append
    )
    assert report.roofs == Roofs(1.0, 1e18)  # the better of both, each by itself
    assert report.above_roof == report.summary()["above_roof"] == ["mass/torch/70x1", "gather/torch/70x1"]
    told = "above its roof: the machine was busy, or the operands stayed in a cache"
    assert [told in line for line in said] == [False, True, True, False]
    for t in report.timings:
        assert t.seconds is not None and t.share == pytest.approx(t.bytes / t.seconds) and t.roof == "bandwidth"


def test_a_roof_that_was_disturbed_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = Roofs(1e15, 1e18)
    monkeypatch.setattr(kernel_report, "measure_roofs", lambda *_: fast)
    report = report_kernels(
        [shape()], TorchOperations(), CPU, torch.float32, kernels=["mass"], roofs=Roofs(1.0, 1.0), say=lambda _: None
    )
    (timing,) = report.timings
    assert report.roofs == fast and report.above_roof == [] and report.record()["roofs"]["flops_per_second"] == 1e18
    assert timing.seconds is not None and timing.share == pytest.approx(timing.bytes / 1e15 / timing.seconds)
