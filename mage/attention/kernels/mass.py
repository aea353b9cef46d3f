"""Triton: the attention mass of a block on every entry of the prefix, in one pass over the keys.

A program holds the queries of all rows that share a KV head and walks over tiles of keys, so that each key is read once
from memory; a tile of keys meets the rows tile by tile, and what is reduced over the rows stays in registers. Programs
take tiles in turn, so that they share the work evenly however much of the cache is filled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from mage.attention.kernels.tiles import device_of, width_of

LOG2_E = math.log2(math.e)
# Bytes of queries that a program holds in shared memory: with three tiles of keys, two programs fit one SM of an H200.
HELD_BYTES = 64 * 1024


@triton.jit
def query_tile(q, stride, tile, rows, dim, ROWS: tl.constexpr, DIM: tl.constexpr):
    """Load one tile of rows, transposed: [DIM, ROWS]."""
    row, channel = tile * ROWS + tl.arange(0, ROWS), tl.arange(0, DIM)
    inside = (row < rows)[:, None] & (channel < dim)[None, :]
    return tl.trans(tl.load(q + row[:, None] * stride + channel[None, :], mask=inside, other=0.0))


@triton.jit
def lse_tile(lse, tile, rows, ROWS: tl.constexpr, LOG2_E: tl.constexpr):
    """Load the log-sum-exp of one tile of rows in base 2; rows that are not there get plus infinity: no mass."""
    row = tile * ROWS + tl.arange(0, ROWS)
    return tl.load(lse + row, mask=row < rows, other=float("inf")) * LOG2_E


@triton.jit
def reduced(total, key, query, lse, scale, MEAN: tl.constexpr):
    """Add one tile of rows to the sum of probabilities of each key, or to the largest of their logarithms."""
    logits = tl.dot(key, query, input_precision="ieee") * scale - lse[None, :]
    if MEAN:
        return total + tl.sum(tl.exp2(logits), 1)
    return tl.maximum(total, tl.max(logits, 1))


@triton.jit(do_not_specialize=["width"])  # it grows block by block
def mass_kernel(
    q,
    keys,
    lengths,
    lse,
    out,
    scale,
    heads,
    rows,
    dim,
    width,
    stride_qb,
    stride_qh,
    stride_qr,
    stride_kb,
    stride_kh,
    stride_kn,
    MEAN: tl.constexpr,
    PAGE: tl.constexpr,
    ROWS: tl.constexpr,
    TILES: tl.constexpr,
    HELD: tl.constexpr,
    KEYS: tl.constexpr,
    DIM: tl.constexpr,
    LOG2_E: tl.constexpr,
):
    """One program takes every so manieth tile of KEYS keys of one head, all rows at once."""
    first, step, head = tl.program_id(0), tl.num_programs(0), tl.program_id(1)
    batch = head // heads
    length = tl.load(lengths + batch)
    q += batch.to(tl.int64) * stride_qb + (head % heads) * stride_qh
    keys += batch.to(tl.int64) * stride_kb + (head % heads).to(tl.int64) * stride_kh
    lse += head.to(tl.int64) * rows
    out += head.to(tl.int64) * width
    channel = tl.arange(0, DIM)
    queries = ()
    normalisers = ()
    if HELD:
        for tile in tl.static_range(TILES):
            queries = queries + (query_tile(q, stride_qr, tile, rows, dim, ROWS, DIM),)  # type: ignore[assignment]
            normalisers = normalisers + (lse_tile(lse, tile, rows, ROWS, LOG2_E),)  # type: ignore[assignment]
    filled = tl.cdiv(length, KEYS)
    for at in range(first, filled, step):
        entry = at * KEYS + tl.arange(0, KEYS)
        inside = (entry < length)[:, None] & (channel < dim)[None, :]
        key = tl.load(keys + entry[:, None].to(tl.int64) * stride_kn + channel[None, :], mask=inside, other=0.0)
        total = tl.full((KEYS,), 0.0 if MEAN else float("-inf"), tl.float32)
        if HELD:
            for tile in tl.static_range(TILES):
                total = reduced(total, key, queries[tile], normalisers[tile], scale, MEAN)
        else:
            for tile in range(0, TILES):
                query = query_tile(q, stride_qr, tile, rows, dim, ROWS, DIM)
                total = reduced(total, key, query, lse_tile(lse, tile, rows, ROWS, LOG2_E), scale, MEAN)
        total = total / rows if MEAN else tl.exp2(total)
        if PAGE > 1:
            total = tl.where(entry < length, total, 0.0)
            total = tl.sum(tl.reshape(total, (KEYS // PAGE, PAGE)), 1)
        slot = at * (KEYS // PAGE) + tl.arange(0, KEYS // PAGE)
        tl.store(out + slot, tl.where(slot * PAGE < length, total, float("-inf")), mask=slot < width)
    rest = first + tl.cdiv(tl.maximum(filled - first, 0), step) * step
    for at in range(rest, tl.cdiv(width * PAGE, KEYS), step):
        slot = at * (KEYS // PAGE) + tl.arange(0, KEYS // PAGE)
        tl.store(out + slot, tl.full((KEYS // PAGE,), float("-inf"), tl.float32), mask=slot < width)


def attention_mass(
    q: Tensor,
    keys: Tensor,
    lengths: Tensor,
    lse: Tensor,
    scale: float,
    reduction: Literal["mean", "max"],
    width: int,
    page_size: int = 1,
) -> Tensor:
    """Return the probability exp(q . key * scale - lse) of every entry, reduced over the rows: float32 `[batch,
    kv_heads, width]`, minus infinity beyond a row's length.

    `q` `[batch, kv_heads, rows, d]`, `keys` `[batch, kv_heads, capacity, d]` in the same dtype, both with their last
    dimension contiguous; `lengths` int32 `[batch]`; `lse` float32 `[batch, kv_heads, rows]`; `width <= capacity`.
    page_size: above 1, the mean summed over each page of so many entries, `width` pages.
    """
    batch, heads, rows, dim = q.shape
    out = torch.empty((batch, heads, width), dtype=torch.float32, device=q.device)
    if page_size > 1 and reduction != "mean":
        raise ValueError(f"the mass of a page is a sum of means, not of reduction={reduction}")
    form = mass_form(rows, dim, q.element_size())
    if page_size & (page_size - 1) or page_size > form.keys:  # pages that do not divide a tile of keys
        mass = attention_mass(q, keys, lengths, lse, scale, reduction, min(width * page_size, keys.shape[2]))
        mass = F.pad(mass, (0, width * page_size - mass.shape[2]), value=float("-inf")).unflatten(2, (-1, page_size))
        return mass.clamp(min=0.0).sum(-1).masked_fill_(mass[..., 0] < 0.0, float("-inf"))
    tiles = triton.cdiv(width * page_size, form.keys)
    grid = (programs_per_head(batch * heads, tiles, slots(q.device, form.shared)), batch * heads)
    mass_kernel[grid](
        q,
        keys,
        lengths,
        lse.contiguous(),
        out,
        scale * LOG2_E,
        heads,
        rows,
        dim,
        width,
        *q.stride()[:3],
        *keys.stride()[:3],
        MEAN=reduction == "mean",
        PAGE=page_size,
        ROWS=form.rows,
        TILES=form.tiles,
        HELD=form.held,
        KEYS=form.keys,
        DIM=form.dim,
        LOG2_E=LOG2_E,
        num_warps=form.warps,
        num_stages=form.stages,
    )
    return out


@dataclass(frozen=True)
class MassForm:
    """How the kernel is cut: `tiles` tiles of `rows` query rows, `held` in shared memory or read again for each tile of
    `keys` keys; channels padded to `dim`; `shared` bytes that a program takes."""

    rows: int
    tiles: int
    held: bool
    keys: int
    dim: int
    warps: int
    stages: int
    shared: int


def mass_form(rows: int, dim: int, itemsize: int) -> MassForm:
    """Return how to cut the work: row tiles of 64, the smallest that fill a tensor core instruction, as 192 rows waste
    nothing in them."""
    dim = width_of(dim)
    row_tile = min(64, max(16, triton.next_power_of_2(rows)))
    tiles = triton.cdiv(rows, row_tile)
    held_bytes = tiles * row_tile * dim * itemsize
    held = held_bytes <= HELD_BYTES
    key_bytes = 64 * dim * itemsize
    stages = 3 if key_bytes <= 16 * 1024 else 2
    shared = (held_bytes if held else 2 * row_tile * dim * itemsize) + stages * key_bytes
    return MassForm(row_tile, tiles, held, keys=64, dim=dim, warps=4, stages=stages, shared=shared)


def slots(device: torch.device, shared: int) -> int:
    """Return how many programs that take `shared` bytes run at once."""
    here = device_of(device)
    each = (here.shared + 1024) // (shared + 1024)  # the driver keeps 1 KiB a program
    return here.processors * max(1, min(4, each))


def programs_per_head(heads: int, tiles: int, places: int) -> int:
    """Return how many programs share the `tiles` tiles of each of `heads` heads so that up to four rounds of `places`
    programs are as full as can be."""
    counts = [rounds * places // heads for rounds in range(1, 5)]
    filled = [count * heads / (rounds * places) for rounds, count in enumerate(counts, 1)]
    best = max(range(4), key=lambda index: round(filled[index], 3))
    return max(1, min(tiles, counts[best]))
