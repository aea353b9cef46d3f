"""Triton: attention of a block to itself, on top of what attention to its prefix gave."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from mage.attention.kernels.softmax import LOG2_E, attend, load_rows
from mage.attention.kernels.tiles import Device, Tile, check_rows, compact_tile, device_of, width_of

ROWS = 32  # of a tile at most: the work is so little that it takes many small programs to spread it


@triton.jit(do_not_specialize=["rows", "block", "ahead", "heads"])
def in_block_kernel(
    q,
    k,
    v,
    prefix,
    lse,
    out,
    stride_qb,
    stride_qh,
    stride_qr,
    stride_kb,
    stride_kh,
    stride_kn,
    stride_vb,
    stride_vh,
    stride_vn,
    rows,
    block,
    ahead,
    heads,
    scale,
    CAUSAL: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """One program attends from M rows of one KV head. The prefix is where the online softmax starts: a key of which the
    score is `lse` and the value is the output."""
    tile, flat = tl.program_id(0), tl.program_id(1).to(tl.int64)
    batch, head = flat // heads, flat % heads
    row = tile * M + tl.arange(0, M)
    channel = tl.arange(0, WIDTH)
    held = (row < rows)[:, None] & (channel < DIM)[None, :]
    q += batch * stride_qb + head * stride_qh
    queries = load_rows(q, tl.cast(stride_qr, tl.int64), row, rows, True, DIM, WIDTH)
    at = (flat * rows + row)[:, None] * DIM + channel[None, :]
    # Without a prefix this is minus infinity, and the first key of the block takes away what stands beside it.
    top = tl.load(lse + flat * rows + row, mask=row < rows, other=float("-inf")) * LOG2_E
    total = tl.full((M,), 1.0, tl.float32)
    acc = tl.load(prefix + at, mask=held, other=0.0)
    place = row % (ahead + block) - ahead  # in the block; below 0 before it, where none of it is seen
    seen = tl.where(place < 0, 0, place + 1 if CAUSAL else block)
    k += batch * stride_kb + head * stride_kh
    v += batch * stride_vb + head * stride_vh
    top, total, acc = attend(
        queries, k, v, stride_kn, stride_vn, 0, block, seen, scale, top, total, acc, True, N, DIM, WIDTH
    )
    tl.store(out + at, (acc / total[:, None]).to(out.dtype.element_ty), mask=held)


def in_block_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prefix: tuple[Tensor, Tensor],
    scale: float,
    causal: bool,
    ahead: int = 0,
    *,
    tile: Tile | None = None,
) -> Tensor:
    """Attend to the block, merged with what `prefix_attention` gave for its `prefix`.

    `q` `[batch, kv_heads, rows, d]`, `k`, `v` `[batch, kv_heads, block rows, d]`, each with its last dimension
    contiguous; `prefix`: float32 output like `q` and natural log-sum-exp `[batch, kv_heads, rows]`, contiguous. causal:
    a position sees the block up to itself. `ahead`: positions of each query head before the block, which see nothing of
    it. `tile`: chosen from shapes and device where not given. Returns the output in the dtype of `q`.
    """
    check_rows(q=q, k=k, v=v)
    batch, heads, rows, dim = q.shape
    block = k.shape[2]
    tile = tile or in_block_tile(rows, block, dim, q.itemsize, device_of(q.device))
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    in_block_kernel[(triton.cdiv(rows, tile.rows), batch * heads)](
        q,
        k,
        v,
        *prefix,
        out,
        *q.stride()[:3],
        *k.stride()[:3],
        *v.stride()[:3],
        rows,
        block,
        ahead,
        heads,
        scale * LOG2_E.value,
        CAUSAL=causal,
        M=tile.rows,
        N=tile.keys,
        DIM=dim,
        WIDTH=width_of(dim),
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    return out


@lru_cache
def in_block_tile(rows: int, block: int, dim: int, itemsize: int, device: Device) -> Tile:
    """Return the tile for rows that attend to the keys of one block."""
    tile = compact_tile(min(rows, ROWS), dim, itemsize, device)
    return replace(tile, keys=min(tile.keys, width_of(block)))
