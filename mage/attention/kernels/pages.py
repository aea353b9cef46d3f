"""Triton: Quest's bounds of each page of keys, and what they promise to a block of queries.

Source of the formula: Quest (arXiv 2406.10774), section 3.
"""

from __future__ import annotations

from typing import Literal

import torch
import triton
import triton.language as tl
from torch import Tensor

from mage.attention.kernels.mass import programs_per_head, slots
from mage.attention.kernels.tiles import width_of

ROW_TILE = 16  # keys of a page, or rows of queries, that a program holds at a time
PAGES = 64  # pages that a program scores at a time


@triton.jit(do_not_specialize=["first_page"])
def bounds_kernel(
    keys,
    lengths,
    low,
    high,
    heads,
    dim,
    first_page,
    stride_kb,
    stride_kh,
    stride_kn,
    stride_lb,
    stride_lh,
    stride_lp,
    stride_hb,
    stride_hh,
    stride_hp,
    PAGE: tl.constexpr,
    ROWS: tl.constexpr,
    DIM: tl.constexpr,
):
    """One program bounds one page of one head."""
    page, head = tl.program_id(0) + first_page, tl.program_id(1)
    batch, head = (head // heads).to(tl.int64), (head % heads).to(tl.int64)
    length = tl.load(lengths + batch)
    channel = tl.arange(0, DIM)
    smallest = tl.full((ROWS, DIM), float("inf"), tl.float32)
    largest = tl.full((ROWS, DIM), float("-inf"), tl.float32)
    for start in range(0, PAGE, ROWS):
        within = start + tl.arange(0, ROWS)
        entry = page * PAGE + within
        inside = ((within < PAGE) & (entry < length))[:, None] & (channel < dim)[None, :]
        at = keys + batch * stride_kb + head * stride_kh + entry[:, None].to(tl.int64) * stride_kn + channel[None, :]
        key = tl.load(at, mask=inside, other=0.0).to(tl.float32)
        smallest = tl.where(inside, tl.minimum(smallest, key), smallest)
        largest = tl.where(inside, tl.maximum(largest, key), largest)
    some = page * PAGE < length
    smallest = tl.where(some, tl.min(smallest, 0), 0.0)
    largest = tl.where(some, tl.max(largest, 0), 0.0)
    row = page.to(tl.int64)
    tl.store(low + batch * stride_lb + head * stride_lh + row * stride_lp + channel, smallest, mask=channel < dim)
    tl.store(high + batch * stride_hb + head * stride_hh + row * stride_hp + channel, largest, mask=channel < dim)


@triton.jit(do_not_specialize=["pages"])
def scores_kernel(
    q,
    low,
    high,
    out,
    heads,
    rows,
    dim,
    pages,
    stride_qb,
    stride_qh,
    stride_qr,
    stride_lb,
    stride_lh,
    stride_lp,
    stride_hb,
    stride_hh,
    stride_hp,
    SUM: tl.constexpr,
    ROWS: tl.constexpr,
    PAGES: tl.constexpr,
    DIM: tl.constexpr,
):
    """One program takes every so manieth tile of PAGES pages of one head, all rows at once."""
    head = tl.program_id(1)
    batch, inner = (head // heads).to(tl.int64), (head % heads).to(tl.int64)
    q += batch * stride_qb + inner * stride_qh
    low += batch * stride_lb + inner * stride_lh
    high += batch * stride_hb + inner * stride_hh
    out += head.to(tl.int64) * pages
    channel = tl.arange(0, DIM)
    positive = tl.zeros((DIM,), tl.float32)
    negative = tl.zeros((DIM,), tl.float32)
    if SUM:  # the bound is linear in each part, so rows are summed first
        for start in range(0, rows, ROWS):
            row = start + tl.arange(0, ROWS)
            inside = (row < rows)[:, None] & (channel < dim)[None, :]
            query = tl.load(q + row[:, None] * stride_qr + channel[None, :], mask=inside, other=0.0).to(tl.float32)
            positive += tl.sum(tl.maximum(query, 0.0), 0)
            negative += tl.sum(tl.minimum(query, 0.0), 0)
    for tile in range(tl.program_id(0), tl.cdiv(pages, PAGES), tl.num_programs(0)):
        page = tile * PAGES + tl.arange(0, PAGES)
        inside = (page < pages)[:, None] & (channel < dim)[None, :]
        at = page[:, None].to(tl.int64)
        smallest = tl.load(low + at * stride_lp + channel[None, :], mask=inside, other=0.0)
        largest = tl.load(high + at * stride_hp + channel[None, :], mask=inside, other=0.0)
        if SUM:
            upper = positive[None, :] * largest.to(tl.float32)
            bound = tl.sum(upper + negative[None, :] * smallest.to(tl.float32), 1)
        else:
            smallest = smallest.to(q.dtype.element_ty)
            largest = largest.to(q.dtype.element_ty)
            bound = tl.full((PAGES,), float("-inf"), tl.float32)
            for start in range(0, rows, ROWS):
                row = start + tl.arange(0, ROWS)
                seen = (row < rows)[:, None] & (channel < dim)[None, :]
                query = tl.load(q + row[:, None] * stride_qr + channel[None, :], mask=seen, other=0.0)
                above = tl.where(query > 0, query, 0.0).to(query.dtype)
                below = tl.where(query < 0, query, 0.0).to(query.dtype)
                upper = tl.dot(largest, tl.trans(above), input_precision="ieee")
                upper = tl.dot(smallest, tl.trans(below), upper, input_precision="ieee")
                upper = tl.where((row < rows)[None, :], upper, float("-inf"))
                bound = tl.maximum(bound, tl.max(upper, 1))
        tl.store(out + page, bound, mask=page < pages)


def page_bounds(keys: Tensor, lengths: Tensor, page_size: int, first_page: int, low: Tensor, high: Tensor) -> None:
    """Write the smallest and the largest key of each page from `first_page` on, per channel, over the valid entries.

    `keys` `[batch, kv_heads, capacity, d]`, `lengths` int32 `[batch]`, `low` and `high` `[batch, kv_heads, pages, d]`
    of all pages in any float dtype, those before `first_page` left as they are; each with its last dimension
    contiguous. A page without any valid entry gets zeros.
    """
    batch, heads, _, dim = keys.shape
    pages = low.shape[2] - first_page
    if pages <= 0:
        return
    bounds_kernel[(pages, batch * heads)](
        keys,
        lengths,
        low,
        high,
        heads,
        dim,
        first_page,
        *keys.stride()[:3],
        *low.stride()[:3],
        *high.stride()[:3],
        PAGE=page_size,
        ROWS=min(ROW_TILE, triton.next_power_of_2(page_size)),
        DIM=width_of(dim),
        num_warps=1 if page_size * dim <= 1024 else 4,
    )


def page_scores(q: Tensor, low: Tensor, high: Tensor, reduction: Literal["sum", "max"]) -> Tensor:
    """Return sum_d max(q_d low_d, q_d high_d) of every page, reduced over the rows: float32 `[batch, kv_heads,
    pages]`.

    `q` `[batch, kv_heads, rows, d]`, `low` and `high` `[batch, kv_heads, pages, d]`, each with its last dimension
    contiguous. With `max` bounds are rounded to the dtype of `q`: nothing is lost where they are keys of that dtype.
    """
    batch, heads, rows, dim = q.shape
    pages = low.shape[2]
    out = torch.empty((batch, heads, pages), dtype=torch.float32, device=q.device)
    if pages == 0:
        return out
    width = width_of(dim)
    row_tile = min(64, max(16, triton.next_power_of_2(rows)))
    count = programs_per_head(batch * heads, triton.cdiv(pages, PAGES), slots(q.device, 4 * PAGES * width * 2))
    scores_kernel[(count, batch * heads)](
        q,
        low,
        high,
        out,
        heads,
        rows,
        dim,
        pages,
        *q.stride()[:3],
        *low.stride()[:3],
        *high.stride()[:3],
        SUM=reduction == "sum",
        ROWS=row_tile,
        PAGES=PAGES,
        DIM=width,
        num_warps=4,
        num_stages=2,
    )
    return out
