"""Triton: where the splits of a prefix lie, and the merge of what attention to each of them gave."""

from __future__ import annotations

import triton
import triton.language as tl

from mage.attention.kernels.softmax import LOG2_E

LEAST = tl.constexpr(2)  # tiles of keys that are worth a program


@triton.jit
def part_of(length, splits, N: tl.constexpr):
    """Return how many keys of `length` each split attends to: whole tiles, and the same for all but the last."""
    return tl.maximum(tl.cdiv(tl.cdiv(length, N), splits), LEAST) * N


@triton.jit(do_not_specialize=["rows", "heads", "capacity", "splits"])
def merge_kernel(
    lengths,
    outs,
    lses,
    out,
    lse_prefix,
    lse_block,
    stride_lb,
    stride_lh,
    rows,
    heads,
    capacity,
    splits,
    BLOCK: tl.constexpr,
    N: tl.constexpr,
    SPLITS: tl.constexpr,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """One program merges the splits of one row, by their log-sum-exp in powers of two; BLOCK: and the block's part."""
    row, flat = tl.program_id(0), tl.program_id(1).to(tl.int64)
    length = capacity if lengths is None else tl.load(lengths + flat // heads * stride_lb + flat % heads * stride_lh)
    part = part_of(length, splits, N)
    first = flat * (splits + 1) * rows + row
    split = tl.arange(0, SPLITS)
    channel = tl.arange(0, WIDTH)
    live = split * part < length
    lse = tl.load(lses + first + (split + 1) * rows, mask=live, other=float("-inf"))
    outs += first * DIM + channel
    held = channel < DIM
    parts = tl.load(outs[None, :] + ((split + 1) * rows)[:, None] * DIM, mask=live[:, None] & held[None, :], other=0.0)
    highest = tl.max(lse, 0)
    empty = highest == float("-inf")
    if BLOCK:
        lse_of_block = tl.load(lses + first)
        level = tl.maximum(highest, lse_of_block)
        weights = tl.exp2(lse - level)
        weight_of_block = tl.exp2(lse_of_block - level)
        merged = tl.sum(parts * weights[:, None], 0) + tl.load(outs, mask=held, other=0.0) * weight_of_block
        merged = merged / (tl.sum(weights, 0) + weight_of_block)
        if lse_block is not None:
            tl.store(lse_block + flat * rows + row, lse_of_block / LOG2_E)
    else:
        weights = tl.exp2(lse - tl.where(empty, 0.0, highest))
        merged = tl.sum(parts * weights[:, None], 0) / tl.where(empty, 1.0, tl.sum(weights, 0))
    tl.store(out + (flat * rows + row) * DIM + channel, merged.to(out.dtype.element_ty), mask=held)
    if lse_prefix is not None:
        total = tl.sum(tl.exp2(lse - tl.where(empty, 0.0, highest)), 0)
        tl.store(lse_prefix + flat * rows + row, (highest + tl.log2(tl.where(empty, 1.0, total))) / LOG2_E)
