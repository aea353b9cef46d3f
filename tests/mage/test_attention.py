"""Partial attentions, their merge, and the block-causal prefill, against one softmax over everything."""

from __future__ import annotations

import pytest
import torch

from mage.attention import reference
from mage.attention.operations import Lengths
from mage.attention.prefill import block_causal_attention
from mage.attention.reference import (
    float32_product,
    group_rows,
    last_rows,
    masked_scores,
    merge,
    partial_attention,
    ungroup_rows,
    visible_rows,
)
from mage.attention.torch_operations import TorchOperations

SHAPES = [(1, 1, 1, 1, 8, 5), (2, 4, 2, 7, 16, 33), (1, 6, 2, 4, 8, 1), (3, 4, 4, 8, 4, 64)]


def tensors(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    batch, heads, kv_heads, rows, head_dim, keys = shape
    torch.manual_seed(0)
    return (
        torch.randn(batch, heads, rows, head_dim),
        torch.randn(batch, kv_heads, keys, head_dim),
        torch.randn(batch, kv_heads, keys, head_dim),
    )


def softmax_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Attention by the book; `visible` [rows, keys]."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(~visible, float("-inf"))
    return scores.softmax(-1) @ v


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("split", [0, 1, 3])
def test_merged_parts_equal_the_whole(shape: tuple[int, ...], split: int) -> None:
    q, k, v = tensors(shape)
    split = min(split, k.shape[2] - 1)
    rows, scale = group_rows(q, k.shape[1]), q.shape[-1] ** -0.5
    first = partial_attention(rows, k[:, :, :split], v[:, :, :split], scale)
    second = partial_attention(rows, k[:, :, split:], v[:, :, split:], scale)
    expected = softmax_attention(q, k, v, torch.ones(q.shape[2], k.shape[2], dtype=torch.bool))
    torch.testing.assert_close(ungroup_rows(merge(*first, *second), q.shape[1]), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(merge(*second, *first), merge(*first, *second), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("causal", [False, True], ids=["whole", "causal"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("ahead", [0, 1, 3, 5])
def test_positions_ahead_of_a_block_see_the_prefix_alone(shape: tuple[int, ...], ahead: int, causal: bool) -> None:
    """One softmax over the keys of two rows of prefix, whose last entries are the positions ahead, and of the block."""
    batch, heads, kv_heads, block, dim, capacity = shape
    capacity += ahead
    q, k, v = tensors((batch, heads, kv_heads, ahead + block, dim, capacity + block))
    lengths = [max(1, capacity - row) for row in range(batch)]
    keys, values, own = k[:, :, :capacity], v[:, :, :capacity], (k[:, :, capacity:], v[:, :, capacity:])
    rows, operations = group_rows(q, kv_heads), TorchOperations()
    held, scale = Lengths.of(lengths, q.device), dim**-0.5
    found = operations.exact(rows, keys, values, held, *own, scale, causal, ahead)
    kept = operations.prefix(rows, keys, values, held, scale)
    again = operations.in_block(rows, *own, kept, scale, causal, ahead)
    for row, length in enumerate(lengths):
        visible = torch.zeros(ahead + block, capacity + block, dtype=torch.bool)
        visible[:, :length] = True
        for place in range(block):
            visible[ahead + place, capacity : capacity + (place + 1 if causal else block)] = True
        expected = softmax_attention(q[row : row + 1], k[row : row + 1], v[row : row + 1], visible)
        for out in (found.out, again):
            torch.testing.assert_close(ungroup_rows(out, heads)[row : row + 1], expected, atol=1e-5, rtol=1e-5)
    unseen = found.lse_block.unflatten(2, (heads // kv_heads, -1))[..., :ahead]
    assert torch.isneginf(unseen).all()


def test_rows_of_each_head_behind_the_first_positions() -> None:
    group, positions, ahead = 3, 7, 2
    rows = torch.arange(group * positions).view(1, 1, -1)
    wanted = [head * positions + place for head in range(group) for place in range(ahead, positions)]
    assert last_rows(rows, group, ahead)[0, 0].tolist() == wanted
    assert last_rows(rows, group, 0) is rows
    seen = visible_rows(2, group, rows.device, causal=True, ahead=1)
    assert seen is not None and seen.int().tolist() == [[0, 0], [1, 0], [1, 1]] * group
    assert visible_rows(2, group, rows.device, causal=False) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_fully_masked_part_has_no_weight(dtype: torch.dtype) -> None:
    q, k, v = (x.to(dtype) for x in tensors((2, 4, 2, 3, 8, 6)))
    rows = group_rows(q, 2)
    hidden = torch.zeros(2, 1, 1, 6, dtype=torch.bool)
    out, lse = partial_attention(rows, k, v, 0.3, hidden)
    assert torch.equal(out, torch.zeros_like(out)) and torch.isneginf(lse).all()
    other = partial_attention(rows, k, v, 0.3)
    torch.testing.assert_close(merge(out, lse, *other), other[0])


@pytest.mark.parametrize(("start", "rows", "block"), [(0, 16, 4), (8, 12, 4), (0, 1100, 32), (4, 7, 4), (0, 5, 8)])
def test_block_causal_attention(start: int, rows: int, block: int) -> None:
    q, k, v = tensors((2, 4, 2, rows, 8, start + rows))
    positions = torch.arange(start + rows)
    visible = (positions[start:, None] // block) >= (positions // block)
    expected = softmax_attention(q, k, v, visible)
    torch.testing.assert_close(block_causal_attention(q, k, v, start, block), expected, atol=1e-5, rtol=1e-5)


def test_a_chunk_edge_inside_a_block_raises() -> None:
    q, k, v = tensors((1, 2, 2, 4, 8, 6))
    with pytest.raises(ValueError, match="not a multiple of the block size 4"):
        block_causal_attention(q, k, v, 2, 4)


def in_parts(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention to two parts of the keys, merged: `[batch, heads, rows, d]` in the dtype of `q`."""
    rows, scale, split = group_rows(q, k.shape[1]), q.shape[-1] ** -0.5, k.shape[2] // 3
    first = partial_attention(rows, k[:, :, :split], v[:, :, :split], scale)
    second = partial_attention(rows, k[:, :, split:], v[:, :, split:], scale)
    return ungroup_rows(merge(*first, *second), q.shape[1]).to(q.dtype)


@pytest.mark.parametrize("rounded", [False, True], ids=["upcast", "rounded-weights"])
@pytest.mark.parametrize("peak", [1.0, 4.0, 12.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_as_exact_as_fused_attention(
    dtype: torch.dtype, peak: float, rounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against float64, with attention the more peaked the larger the queries. `rounded`: as a GPU multiplies."""
    if rounded:
        monkeypatch.setattr(reference, "float32_product", lambda a, b: a.to(b.dtype).float() @ b.float())
    q, k, v = tensors((1, 4, 2, 16, 64, 1024))
    q, k, v = (q * peak).to(dtype), k.to(dtype), v.to(dtype)
    exact = softmax_attention(q.double(), k.double(), v.double(), torch.ones(16, 1024, dtype=torch.bool))
    fused = torch.nn.functional.scaled_dot_product_attention(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1))
    ours, theirs = ((x.double() - exact).norm() / exact.norm() for x in (in_parts(q, k, v), fused))
    assert ours < 1.1 * theirs


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_large_scores_of_half_precision_neither_overflow_nor_round(dtype: torch.dtype) -> None:
    q, k = torch.full((1, 1, 2, 64), 60.0, dtype=dtype), torch.full((1, 1, 5, 64), 60.0, dtype=dtype)
    k[..., 3, 0] = 61.0
    scores = masked_scores(q, k, 0.125, None)  # 64 * 3600 = 230400 is beyond float16
    assert scores.dtype == torch.float32
    assert scores[0, 0, 0].tolist() == [28800.0, 28800.0, 28800.0, 28807.5, 28800.0]
    out, lse = partial_attention(q, k, k, 0.125)
    assert torch.isfinite(out).all() and torch.isfinite(lse).all()


def test_float16_keeps_weights_below_its_smallest_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the weights are rounded, as on a GPU: 2^17 equal ones of 2^-17 are subnormal, and more would be zero."""
    monkeypatch.setattr(reference, "float32_product", lambda a, b: a.to(b.dtype).float() @ b.float())
    size = 3 * 2**16
    q, k = torch.zeros(1, 1, 1, 2, dtype=torch.float16), torch.zeros(1, 1, size, 2, dtype=torch.float16)
    out, lse = partial_attention(q, k, torch.ones_like(k), 1.0)
    torch.testing.assert_close(out, torch.ones(1, 1, 1, 2), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(lse, torch.full((1, 1, 1), float(size)).log())


@pytest.mark.parametrize("elements", [1, 100, 2**24])
def test_keys_are_upcast_in_tiles(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "UPCAST_ELEMENTS", elements)
    torch.manual_seed(0)
    cache = torch.randn(2, 3, 9, 8).bfloat16()[:, :, :5]  # a view of a longer cache
    a = torch.randn(2, 3, 4, 8)
    torch.testing.assert_close(float32_product(a, cache.transpose(-1, -2)), a @ cache.float().transpose(-1, -2))
