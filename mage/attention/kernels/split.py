"""Triton: attention of a block to a long prefix, whose keys are split among programs (flash decoding)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from mage.attention.kernels.merge import merge_kernel, part_of
from mage.attention.kernels.softmax import LOG2_E, attend, load_rows
from mage.attention.kernels.tiles import Tile, check_rows, device_of, splits_of, streaming_tile, width_of


@triton.jit(do_not_specialize=["rows", "block", "ahead", "heads", "share", "capacity", "splits"])
def part_kernel(
    q,
    keys,
    values,
    lengths,
    k,
    v,
    outs,
    lses,
    stride_qb,
    stride_qh,
    stride_qr,
    stride_kb,
    stride_kh,
    stride_kn,
    stride_vb,
    stride_vh,
    stride_vn,
    stride_lb,
    stride_lh,
    stride_bkb,
    stride_bkh,
    stride_bkn,
    stride_bvb,
    stride_bvh,
    stride_bvn,
    rows,
    block,
    ahead,
    heads,
    share,
    capacity,
    splits,
    scale,
    CAUSAL: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """One program attends from M rows of one head to one split; the first split is the block itself, left out where
    `k` is None.

    Row tiles of the same keys stand next to each other in the order of launch, so that one of them reads the keys
    from memory and the others from the cache. A split without keys leaves nothing behind.
    """
    tile, flat, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    if k is None:
        split += 1
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
    length = capacity if lengths is None else tl.load(lengths + batch * stride_lb + head * stride_lh)
    part = part_of(length, splits, N)
    begin = (split - 1) * part
    end = tl.minimum(begin + part, length)
    whole = begin + tl.maximum(end - begin, 0) // N * N
    in_block = split == 0
    whole = tl.where(in_block, begin, whole)
    top, total, acc = attend(
        queries, keys, values, stride_kn, stride_vn, begin, whole, row, scale, top, total, acc, False, N, DIM, WIDTH
    )
    # What is left needs masks: the end of the prefix, or all of the block.
    begin = tl.where(in_block, 0, begin)
    whole = tl.where(in_block, 0, whole)
    end = tl.where(in_block, block, end)
    if k is not None:
        keys = tl.where(in_block, k + batch * stride_bkb + kv_head * stride_bkh, keys)
        values = tl.where(in_block, v + batch * stride_bvb + kv_head * stride_bvh, values)
    step_k = tl.where(in_block, stride_bkn, stride_kn)
    step_v = tl.where(in_block, stride_bvn, stride_vn)
    seen = tl.full((M,), 0, tl.int32) + end
    if k is not None:
        place = row % (ahead + block) - ahead  # in the block; below 0 before it, where none of it is seen
        seen = tl.where(in_block, tl.where(place < 0, 0, place + 1 if CAUSAL else block), seen)
    top, total, acc = attend(
        queries, keys, values, step_k, step_v, whole, end, seen, scale, top, total, acc, True, N, DIM, WIDTH
    )
    channel = tl.arange(0, WIDTH)
    first = (tl.cast(flat, tl.int64) * (splits + 1) + split) * rows
    written = (row < rows) & (begin < end)
    total = tl.where(total > 0.0, total, 1.0)  # what sees nothing has no weight: its log-sum-exp is minus infinity
    tl.store(lses + first + row, top + tl.log2(total), mask=written)
    at = outs + (first + row)[:, None] * DIM + channel[None, :]
    tl.store(at, acc / total[:, None], mask=written[:, None] & (channel < DIM)[None, :])


def exact_attention(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    causal: bool,
    ahead: int = 0,
    *,
    splits: int | None = None,
    tile: Tile | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Attend to the whole prefix and to the block.

    `q` `[batch, kv_heads, rows, d]`; `keys`, `values` `[batch, kv_heads, capacity, d]`, of which row b has `lengths[b]`
    entries (int32 `[batch]`, on the device, may be 0); `k`, `v` `[batch, kv_heads, block rows, d]`; each with its last
    dimension contiguous. causal: a position sees the block up to itself. `ahead`: positions of each query head before
    the block, which see the prefix alone; it must not be empty then. `splits`, `tile`: how the work is cut, chosen from
    shapes and device where not given. Returns the output in the dtype of `q`, and the float32 natural log-sum-exp of
    prefix and block `[batch, kv_heads, rows]`, minus infinity where nothing is seen.
    """
    lse = (q.new_empty(q.shape[:3], dtype=torch.float32), q.new_empty(q.shape[:3], dtype=torch.float32))
    lengths = lengths[:, None].expand(-1, keys.shape[1])
    return attend_in_splits(q, keys, values, lengths, (k, v), scale, causal, lse, splits, tile, ahead=ahead), *lse


def prefix_attention(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor,
    scale: float,
    out: tuple[Tensor, Tensor] | None = None,
    *,
    splits: int | None = None,
    tile: Tile | None = None,
) -> tuple[Tensor, Tensor]:
    """Attend to the prefix alone, given as in `exact_attention`.

    Returns the float32 output `[batch, kv_heads, rows, d]`, zeros where a prefix is empty, and the natural log-sum-exp
    `[batch, kv_heads, rows]`, minus infinity there; written to `out`, two contiguous tensors, where given.
    """
    if out is None:
        out = q.new_empty(q.shape, dtype=torch.float32), q.new_empty(q.shape[:3], dtype=torch.float32)
    lengths = lengths[:, None].expand(-1, keys.shape[1])
    attend_in_splits(q, keys, values, lengths, None, scale, False, (out[1], None), splits, tile, out[0])
    return out


def attend_in_splits(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor | None,
    block: tuple[Tensor, Tensor] | None,
    scale: float,
    causal: bool,
    lse: tuple[Tensor, Tensor | None] | None,
    splits: int | None,
    tile: Tile | None,
    out: Tensor | None = None,
    ahead: int = 0,
) -> Tensor:
    """Attend as `exact_attention` does, with `lengths` `[batch, heads]` or None for all of the capacity, where `heads`,
    those of `keys`, are the KV heads or the query heads. `block`: its keys and values (None: to the prefix alone).
    `ahead`: positions of each query head before the block, which see nothing of it. Writes both log-sum-exp to `lse`,
    and the output to `out`, where given."""
    check_rows(q=q, keys=keys, values=values)
    k, v = block or (None, None)
    own_strides: tuple[int, ...] = (0,) * 6
    if k is not None and v is not None:
        check_rows(k=k, v=v)
        own_strides = (*k.stride()[:3], *v.stride()[:3])
    batch, heads, capacity, dim = keys.shape
    share = heads // q.shape[1]
    rows = q.shape[2] // share
    device = device_of(q.device)
    tile = tile or streaming_tile(rows, dim, q.itemsize, device)
    row_tiles = triton.cdiv(rows, tile.rows)
    if splits is None:
        slots = device.processors * tile.resident(dim, q.itemsize, device)
        splits = splits_of(row_tiles * batch * heads, triton.cdiv(capacity, tile.keys), slots)
    outs = q.new_empty((batch * heads, splits + 1, rows, dim), dtype=torch.float32)
    lses = q.new_empty((batch * heads, splits + 1, rows), dtype=torch.float32)
    if out is None:
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    length_strides = (0, 0) if lengths is None else lengths.stride()
    width = width_of(dim)
    part_kernel[(row_tiles, batch * heads, splits + (k is not None))](
        q,
        keys,
        values,
        lengths,
        k,
        v,
        outs,
        lses,
        *q.stride()[:3],
        *keys.stride()[:3],
        *values.stride()[:3],
        *length_strides,
        *own_strides,
        rows,
        0 if k is None else k.shape[2],
        ahead,
        heads,
        share,
        capacity,
        splits,
        scale * LOG2_E.value,
        CAUSAL=causal,
        M=tile.rows,
        N=tile.keys,
        DIM=dim,
        WIDTH=width,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    merge_kernel[(rows, batch * heads)](
        lengths,
        outs,
        lses,
        out,
        *(lse or (None, None)),
        *length_strides,
        rows,
        heads,
        capacity,
        splits,
        BLOCK=k is not None,
        N=tile.keys,
        SPLITS=triton.next_power_of_2(splits),
        DIM=dim,
        WIDTH=width,
        num_warps=4,
    )
    return out
