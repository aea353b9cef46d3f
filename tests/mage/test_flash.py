"""The fused attention to a part of the keys against the plain one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mage.attention import flash
from mage.attention.flash import fused_partial_attention
from mage.attention.reference import causal_rows, partial_attention


def problem(batch: int, heads: int, rows: int, keys: int, head_dim: int, peak: float = 1.0) -> tuple[Tensor, ...]:
    """Queries, and keys and values that are views of a longer cache filled with NaN behind them."""
    generator = torch.Generator().manual_seed(batch + heads + rows + keys + head_dim)
    q = torch.randn(batch, rows, heads, head_dim, generator=generator).transpose(1, 2) * peak
    cache = torch.full((2, batch, heads, keys + 3, head_dim), float("nan"))
    cache[:, :, :, :keys] = torch.randn(2, batch, heads, keys, head_dim, generator=generator)
    return q, cache[0, :, :, :keys], cache[1, :, :, :keys]


def check(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> None:
    scale = q.shape[-1] ** -0.5
    with torch.no_grad():
        ours, expected = fused_partial_attention(q, k, v, scale, mask), partial_attention(q, k, v, scale, mask)
    for part, wanted in zip(ours, expected, strict=True):
        assert part.dtype == wanted.dtype and part.shape == wanted.shape
        torch.testing.assert_close(part, wanted, atol=1e-4, rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 3),
    heads=st.integers(1, 4),
    rows=st.integers(1, 140),
    keys=st.integers(0, 700),
    head_dim=st.sampled_from([1, 3, 8, 20, 64, 128, 256]),
    peak=st.sampled_from([0.1, 1.0, 12.0]),
)
def test_equals_the_reference(batch: int, heads: int, rows: int, keys: int, head_dim: int, peak: float) -> None:
    check(*problem(batch, heads, rows, keys, head_dim, peak))


def test_the_fused_kernel_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = problem(2, 2, 5, 40, 16)
    mask = (torch.arange(40) < torch.tensor([40, 3])[:, None])[:, None, None]
    wanted = [partial_attention(q, k, v, 0.25, each) for each in (None, mask)]
    monkeypatch.setattr(flash, "partial_attention", None)
    with torch.inference_mode():
        for each, (out, lse) in zip((None, mask), wanted, strict=True):
            torch.testing.assert_close(flash.fused_partial_attention(q, k, v, 0.25, each), (out, lse))


def test_what_the_kernel_would_misread() -> None:
    """It asks for nothing itself: strides within a row, and keys that all rows share, it would take for others."""
    q, k, v = problem(2, 2, 5, 40, 16)
    across = torch.randn(2, 2, 16, 40).transpose(2, 3)
    check(q, across, v)
    check(q, k, across)
    check(torch.randn(2, 2, 16, 5).transpose(2, 3), k, v)
    check(q, k[:1], v[:1])


def test_another_default_dtype() -> None:
    q, k, v = problem(2, 2, 5, 40, 16)
    torch.set_default_dtype(torch.float64)
    try:
        check(q, k, v, (torch.arange(40) < 7)[None])
    finally:
        torch.set_default_dtype(torch.float32)


def test_rows_of_unlike_lengths() -> None:
    q, k, v = problem(4, 2, 6, 50, 16)
    lengths = torch.tensor([50, 20, 1, 0])
    check(q, k, v, (torch.arange(50) < lengths[:, None])[:, None, None])


def test_heads_of_unlike_lengths() -> None:
    q, k, v = problem(2, 3, 6, 40, 16)
    counts = torch.tensor([[40, 1, 0], [7, 33, 40]])
    check(q, k, v, (torch.arange(40) < counts[..., None])[:, :, None])


@pytest.mark.parametrize("group", [1, 3])
def test_a_causal_block(group: int) -> None:
    q, k, v = problem(2, 2, group * 7, 7, 16)
    check(q, k, v, causal_rows(7, group, q.device))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_other_dtypes_are_the_reference_s_to_the_bit(dtype: torch.dtype) -> None:
    q, k, v = (x.to(dtype) for x in problem(2, 2, 5, 40, 16))
    with torch.no_grad():
        for part, wanted in zip(fused_partial_attention(q, k, v, 0.25), partial_attention(q, k, v, 0.25), strict=True):
            assert torch.equal(part, wanted)


def test_a_gradient_goes_through_the_reference() -> None:
    q, k, v = problem(1, 2, 5, 9, 16)
    gradients = []
    for attend in (fused_partial_attention, partial_attention):
        leaf = q.clone().requires_grad_()
        out, lse = attend(leaf, k, v, 0.25)
        (out.sum() + lse.sum()).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)
