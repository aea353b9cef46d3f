"""Partial attentions, their merge, and the block-causal prefill, against one softmax over everything."""

from __future__ import annotations

import pytest
import torch

from mage.attention.prefill import block_causal_attention
from mage.attention.reference import group_rows, merge, partial_attention, ungroup_rows

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


def test_a_fully_masked_part_has_no_weight() -> None:
    q, k, v = tensors((2, 4, 2, 3, 8, 6))
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
