"""Triton: attention of the prefill, see `mage.attention.prefill`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from mage.attention.kernels.softmax import LOG2_E, attend, load_rows
from mage.attention.kernels.tiles import Tile, check_rows, device_of, streaming_tile, width_of


@triton.jit(do_not_specialize=["start", "rows", "heads", "group", "block_size"])
def block_causal_kernel(
    q,
    k,
    v,
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
    stride_ob,
    stride_oh,
    stride_or,
    start,
    rows,
    heads,
    group,
    block_size,
    scale,
    M: tl.constexpr,
    N: tl.constexpr,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """One program attends from M positions of one head. Programs with the most keys start first."""
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    head = tl.program_id(1)
    batch, head = (head // heads).to(tl.int64), (head % heads).to(tl.int64)
    row = tile * M + tl.arange(0, M)
    q += batch * stride_qb + head * stride_qh
    queries = load_rows(q, tl.cast(stride_qr, tl.int64), row, rows, True, DIM, WIDTH)
    keys = k + batch * stride_kb + (head // group) * stride_kh
    values = v + batch * stride_vb + (head // group) * stride_vh
    first = start + tile * M
    last = tl.minimum(first + M, start + rows) - 1
    end = tl.minimum((last // block_size + 1) * block_size, start + rows)
    # A position sees the keys up to the end of its own block; all of the tile see those that the first one sees.
    seen = tl.minimum(((start + row) // block_size + 1) * block_size, end)
    whole = tl.minimum((first // block_size + 1) * block_size, end) // N * N
    top = tl.full((M,), float("-inf"), tl.float32)
    total = tl.zeros((M,), tl.float32)
    acc = tl.zeros((M, WIDTH), tl.float32)
    top, total, acc = attend(
        queries, keys, values, stride_kn, stride_vn, 0, whole, seen, scale, top, total, acc, False, N, DIM, WIDTH
    )
    top, total, acc = attend(
        queries, keys, values, stride_kn, stride_vn, whole, end, seen, scale, top, total, acc, True, N, DIM, WIDTH
    )
    channel = tl.arange(0, WIDTH)
    out += batch * stride_ob + head * stride_oh
    at = out + row[:, None] * tl.cast(stride_or, tl.int64) + channel[None, :]
    written = (row < rows)[:, None] & (channel < DIM)[None, :]
    tl.store(at, (acc / total[:, None]).to(out.dtype.element_ty), mask=written)


def prefill_attention(
    q: Tensor, k: Tensor, v: Tensor, start: int, block_size: int, *, tile: Tile | None = None
) -> Tensor:
    """Attend from the positions `start ..` to all positions up to the end of their own block.

    `q` `[batch, heads, rows, d]`; `k`, `v` `[batch, kv_heads, start + rows, d]`, each with its last dimension
    contiguous; `start` a multiple of the block size. Returns a tensor like `q`. `tile`: of the work, else chosen.
    """
    if start % block_size:
        raise ValueError(f"prefill chunk starts at {start}, which is not a multiple of the block size {block_size}")
    check_rows(q=q, k=k, v=v)
    batch, heads, rows, dim = q.shape
    out = torch.empty_like(q)
    tile = tile or streaming_tile(rows, dim, q.itemsize, device_of(q.device))
    block_causal_kernel[(triton.cdiv(rows, tile.rows), batch * heads)](
        q,
        k,
        v,
        out,
        *q.stride()[:3],
        *k.stride()[:3],
        *v.stride()[:3],
        *out.stride()[:3],
        start,
        rows,
        heads,
        heads // k.shape[1],
        block_size,
        dim**-0.5 * LOG2_E.value,
        M=tile.rows,
        N=tile.keys,
        DIM=dim,
        WIDTH=width_of(dim),
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    return out
