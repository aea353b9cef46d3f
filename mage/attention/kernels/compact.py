"""Triton: attention of a block to a compact buffer and to itself, the attention of a sparse step."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from mage.attention.kernels.softmax import LOG2_E, attend, load_rows
from mage.attention.kernels.split import attend_in_splits
from mage.attention.kernels.tiles import Tile, check_rows, compact_tile, device_of, splits_of, time_of, width_of

MERGE_COST = 4  # of a second kernel, which merges the parts, in the time of one tile of keys


@triton.jit(do_not_specialize=["rows", "block", "heads", "share", "entries"])
def compact_kernel(
    q,
    keys,
    values,
    counts,
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
    stride_cb,
    stride_ch,
    stride_bkb,
    stride_bkh,
    stride_bkn,
    stride_bvb,
    stride_bvh,
    stride_bvn,
    rows,
    block,
    heads,
    share,
    entries,
    scale,
    CAUSAL: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """One program attends from M rows of one head to all entries of its buffer, then to the block."""
    tile, flat = tl.program_id(0), tl.program_id(1)
    batch, head = (flat // heads).to(tl.int64), (flat % heads).to(tl.int64)
    kv_head = head // share
    row = tile * M + tl.arange(0, M)
    q += batch * stride_qb + kv_head * stride_qh + (head % share) * rows * stride_qr
    queries = load_rows(q, tl.cast(stride_qr, tl.int64), row, rows, True, DIM, WIDTH)
    top = tl.full((M,), float("-inf"), tl.float32)
    total = tl.zeros((M,), tl.float32)
    acc = tl.zeros((M, WIDTH), tl.float32)
    keys += batch * stride_kb + head * stride_kh
    values += batch * stride_vb + head * stride_vh
    count = entries if counts is None else tl.load(counts + batch * stride_cb + head * stride_ch)
    whole = count // N * N
    top, total, acc = attend(
        queries, keys, values, stride_kn, stride_vn, 0, whole, row, scale, top, total, acc, False, N, DIM, WIDTH
    )
    seen = tl.full((M,), 0, tl.int32) + count
    top, total, acc = attend(
        queries, keys, values, stride_kn, stride_vn, whole, count, seen, scale, top, total, acc, True, N, DIM, WIDTH
    )
    k += batch * stride_bkb + kv_head * stride_bkh
    v += batch * stride_bvb + kv_head * stride_bvh
    seen = row % block + 1 if CAUSAL else tl.full((M,), 0, tl.int32) + block
    top, total, acc = attend(
        queries, k, v, stride_bkn, stride_bvn, 0, block, seen, scale, top, total, acc, True, N, DIM, WIDTH
    )
    channel = tl.arange(0, WIDTH)
    at = out + (tl.cast(flat, tl.int64) * rows + row)[:, None] * DIM + channel[None, :]
    written = (row < rows)[:, None] & (channel < DIM)[None, :]
    tl.store(at, (acc / total[:, None]).to(out.dtype.element_ty), mask=written)


def sparse_attention(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    counts: Tensor | None,
    k: Tensor,
    v: Tensor,
    scale: float,
    causal: bool,
    *,
    splits: int | None = None,
    tile: Tile | None = None,
) -> Tensor:
    """Attend to a compact buffer and to the block.

    `q` `[batch, kv_heads, rows, d]`; `keys`, `values` `[batch, heads, n, d]`, where `heads` is the KV heads, or the
    query heads, each of which then attends to a buffer of its own; `counts` int32 `[batch, heads]`: so many entries
    are valid (None: all); `k`, `v` `[batch, kv_heads, block rows, d]`; each with its last dimension contiguous.
    causal: a position sees the block up to itself. `splits`, `tile`: how the work is cut, chosen from shapes and
    device where not given; without splits, one kernel does it all. Returns a tensor like `q`, contiguous.
    """
    check_rows(q=q, keys=keys, values=values, k=k, v=v)
    batch, heads, entries, dim = keys.shape
    share = heads // q.shape[1]
    rows = q.shape[2] // share
    device = device_of(q.device)
    tile = tile or compact_tile(rows, dim, q.itemsize, device)
    row_tiles = triton.cdiv(rows, tile.rows)
    slots = device.processors * tile.resident(dim, q.itemsize, device)
    splits = splits or splits_worth_a_merge(row_tiles * batch * heads, triton.cdiv(entries, tile.keys), slots)
    if splits > 1:
        return attend_in_splits(q, keys, values, counts, (k, v), scale, causal, None, splits, tile)
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    compact_kernel[(row_tiles, batch * heads)](
        q,
        keys,
        values,
        counts,
        k,
        v,
        out,
        *q.stride()[:3],
        *keys.stride()[:3],
        *values.stride()[:3],
        *((0, 0) if counts is None else counts.stride()),
        *k.stride()[:3],
        *v.stride()[:3],
        rows,
        k.shape[2],
        heads,
        share,
        entries,
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


def splits_worth_a_merge(programs: int, tiles: int, slots: int) -> int:
    """Return into how many parts to cut the entries: 1, unless the GPU has so many idle multiprocessors, and the
    buffer is so long, that the parts and their merge take less time than the whole."""
    splits = splits_of(programs, tiles, slots)
    parts = time_of(programs, tiles, slots, splits) + MERGE_COST
    return splits if parts < time_of(programs, tiles, slots, 1) else 1
