"""The kernel benchmark: what it counts, what it compares, and what it says of a kernel that is wrong or missing."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor

from mage.attention import torch_operations
from mage.attention.flash import fused_partial_attention
from mage.attention.kernels.mass import attention_mass
from mage.attention.torch_operations import TorchOperations
from mage.errors import UserError
from mage.timing import kernel_cases, kernel_report
from mage.timing.kernel_cases import KERNELS
from mage.timing.kernel_report import report_kernels
from mage.timing.kernel_shape import KernelShape, Operands
from mage.timing.kernel_suite import check_kernels, time_kernels
from tests.mage.timing.kernel_timings import CPU, ROOFS, shape, timings


def test_every_kernel_is_timed_and_right() -> None:
    found = timings(TorchOperations())
    assert {t.kernel for t in found} == set(KERNELS)
    assert {t.implementation for t in found if t.kernel == "dense"} == {"torch", "torch SDPA"}
    for t in found:
        assert t.failure is None and t.runs == 3 and t.seconds is not None and t.seconds > 0
        assert t.is_right(torch.float32) and t.share == pytest.approx(ROOFS.seconds(t.bytes, t.flops) / t.seconds)


def test_a_batch_is_compared_too_and_not_prefilled() -> None:
    found = timings(TorchOperations(), batch=3)
    assert {t.kernel for t in found} == set(KERNELS) - {"prefill"}
    assert all(t.is_right(torch.float32) for t in found)


def test_bytes_and_operations_are_counted() -> None:
    # 2 KV heads of 16 channels, 2 query heads each, blocks of 8: 16 rows a KV head; float32.
    counted = {t.kernel: (t.bytes, t.flops) for t in timings(TorchOperations())}
    entry = 2 * 16 * 4
    assert counted["dense"] == (2 * 78 * entry + 2 * 16 * entry, 4 * 2 * 16 * 78 * 16)
    # A block of 8 ahead of it sees the 70 entries of the prefix, whose end it is.
    assert counted["fused"] == (2 * 78 * entry + 2 * 32 * entry, 4 * 2 * 16 * (70 + 78) * 16)
    assert counted["mass"] == (70 * entry + 70 * 2 * 4 + 16 * entry, 2 * 2 * 16 * 70 * 16)
    assert counted["sparse"] == (2 * 24 * entry + 2 * 16 * entry, 4 * 2 * 16 * 24 * 16)
    assert counted["gather"] == (4 * 16 * entry + 16 * 2 * 8, 0)
    # 64 tokens in 8 blocks, of 4 heads: every block sees itself and those before, 36 pairs of blocks.
    assert counted["prefill"] == (2 * 64 * entry * 3, 4 * 4 * 16 * 36 * 64)


def test_a_share_of_a_prefix_is_a_budget() -> None:
    assert shape(budget=0.5).entries == 35
    assert shape(budget=512).entries == 70


def test_the_log_sum_exp_is_near_that_of_the_operands() -> None:
    operands = Operands(shape(context=500), CPU, torch.float32)
    attended = TorchOperations().exact(
        operands.grouped, *operands.cache.entries(0), operands.cache.valid, *operands.block, operands.scale, False
    )
    assert (torch.logaddexp(attended.lse_prefix, attended.lse_block) - operands.lse).abs().mean() < 0.3


class Wrong(TorchOperations):
    """Operations that forget a row, give NaN, or do not come to an end."""

    def mass(self, q: Tensor, *others: object) -> Tensor:  # type: ignore[override]
        return super().mass(q.clone().fill_(0.0), *others)  # type: ignore[arg-type]

    def sparse(self, q: Tensor, *others: object) -> Tensor:  # type: ignore[override]
        return super().sparse(q, *others).fill_(math.nan)  # type: ignore[arg-type]

    def gather(self, *operands: object) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        raise OSError("no kernel here\nand a page of the compiler's thoughts")


class Forgetful(TorchOperations):
    """Operations that let the positions ahead of a block see it."""

    def exact(self, *operands: Any) -> Any:
        *others, ahead = operands if len(operands) == 9 else (*operands, 0)
        return super().exact(*others, 0 * ahead)


def test_the_positions_ahead_of_a_block_are_compared() -> None:
    right = {t.kernel: t.is_right(torch.float32) for t in timings(Forgetful(), ("dense", "fused"), batch=2)}
    assert right == {"dense": True, "fused": False}


def test_a_prefix_shorter_than_a_block_has_none_ahead_of_it() -> None:
    short = time_kernels(shape(context=7), TorchOperations(), ROOFS, CPU, torch.float32, kernels=["fused"])
    assert list(short) == []


def test_what_is_wrong_or_fails_is_told() -> None:
    found = {t.kernel: t for t in timings(Wrong(), ("mass", "sparse", "gather", "page_bounds"))}
    right = {name: t.is_right(torch.float32) for name, t in found.items()}
    assert right == {"mass": False, "sparse": True, "gather": True, "page_bounds": True}
    assert found["sparse"].failure == "what it computed is not finite" and found["sparse"].seconds is None
    assert found["gather"].failure == "OSError: no kernel here" and found["gather"].seconds is None


def test_the_cpu_s_own_path_is_compared_with_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*operands: Any) -> tuple[Tensor, Tensor]:
        out, lse = fused_partial_attention(*operands)
        return out * 1.5, lse

    monkeypatch.setattr(torch_operations, "fused_partial_attention", too_large)
    found = timings(TorchOperations(), ("dense", "sparse"))
    right = {(t.kernel, t.implementation): t.is_right(torch.float32) for t in found}
    assert right == {("dense", "torch"): False, ("dense", "torch SDPA"): True, ("sparse", "torch"): False}


def test_a_shape_without_memory_is_left_out() -> None:
    class Large(KernelShape):
        @property
        def rows(self) -> int:
            raise torch.OutOfMemoryError("CUDA out of memory")

    said: list[str] = []
    large = Large(**{field.name: getattr(shape(), field.name) for field in fields(KernelShape)})
    report = report_kernels(
        [large, shape(context=64)], TorchOperations(), CPU, torch.float32, kernels=["mass"], say=said.append
    )
    assert report.too_large == ["70x1"] and not report.is_good and report.wrong == []
    assert [t.context for t in report.timings] == [64]
    assert list(report.summary()["share"]) == ["mass/torch/64x1"]
    assert said[1] == "context 70 batch 1: out of memory" and said[2].startswith("mass")


def test_a_device_that_a_kernel_broke_is_told_of_every_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> NoReturn:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(kernel_report, "measure_roofs", gone)

    class Broken(KernelShape):
        @property
        def rows(self) -> int:
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nand what to set to find it")

    broken = Broken(**{field.name: getattr(shape(), field.name) for field in fields(KernelShape)})
    report = report_kernels(
        [broken], TorchOperations(), CPU, torch.float32, kernels=["mass", "sparse"], roofs=ROOFS, say=lambda _: None
    )
    assert report.wrong == ["mass/torch/70x1", "sparse/torch/70x1"] and not report.too_large
    told = "RuntimeError: CUDA error: an illegal memory access was encountered"
    assert [t.failure for t in report.timings] == [told, told] and report.roofs == ROOFS


def test_a_choice_of_entries_that_fails_is_wrong_whatever_computes_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    class Named(TorchOperations):
        name = "triton"

    def failing(*scores: object) -> NoReturn:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(kernel_cases, "top_k", failing)
    report = report_kernels(
        [shape()], Named(), CPU, torch.float32, kernels=["top_k", "dense"], roofs=ROOFS, say=lambda _: None
    )
    assert report.wrong == ["top_k/torch/70x1"] and not report.is_good


def test_an_unknown_kernel_is_refused() -> None:
    with pytest.raises(UserError, match="kernel=masss is not known; did you mean mass"):
        check_kernels(["masss"])


def test_triton_is_timed_where_it_runs_or_is_interpreted(device: str) -> None:
    class Kernels(TorchOperations):
        name = "triton"

        def mass(self, q, keys, lengths, lse, scale, reduction):  # type: ignore[no-untyped-def]
            return attention_mass(q, keys, lengths.device, lse, scale, reduction, keys.shape[2])

    place = torch.device(device)
    (found,) = time_kernels(shape(), Kernels(), ROOFS, place, torch.float32, kernels=["mass"], runs=3)
    assert found.implementation == "triton" and found.failure is None and found.is_right(torch.float32)
