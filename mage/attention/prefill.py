"""Attention of the prefill: every block sees itself and all blocks before it; causal where a block is one token."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mage.attention.reference import group_rows, ungroup_rows

# Rows attended in one call: bounds the boolean mask, and skips keys that no row of the tile can see.
TILE_ROWS = 512


def block_causal_attention(q: Tensor, k: Tensor, v: Tensor, start: int, block_size: int) -> Tensor:
    """Attend from the positions `start .. start + rows - 1` to all positions up to the end of their own block.

    `q` `[batch, heads, rows, d]`; `k`, `v` `[batch, kv_heads, start + rows, d]` hold every key from position 0. Query
    at position p sees key at position j when `p // block_size >= j // block_size`; with a block size of 1 that is
    causal attention. Returns `[batch, heads, rows, d]`. `start` must be a multiple of the block size: an edge inside a
    block would hide its later keys.
    """
    if start % block_size:
        raise ValueError(f"prefill chunk starts at {start}, which is not a multiple of the block size {block_size}")
    num_heads, num_kv_heads, rows = q.shape[1], k.shape[1], q.shape[2]
    tile = max(block_size, TILE_ROWS // block_size * block_size)
    out = torch.empty_like(q)
    for low in range(0, rows, tile):
        high = min(low + tile, rows)
        visible = start + high  # keys that the last row of the tile sees
        block_of_row = torch.arange(start + low, start + high, device=q.device) // block_size
        block_of_key = torch.arange(visible, device=q.device) // block_size
        mask = (block_of_row[:, None] >= block_of_key).repeat(num_heads // num_kv_heads, 1)  # [group * tile, visible]
        grouped = group_rows(q[:, :, low:high], num_kv_heads)
        attended = F.scaled_dot_product_attention(grouped, k[:, :, :visible], v[:, :, :visible], attn_mask=mask)
        out[:, :, low:high] = ungroup_rows(attended, num_heads)
    return out
