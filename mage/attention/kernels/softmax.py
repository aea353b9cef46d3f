"""Triton: online softmax over a range of keys, the inner loop that every attention kernel shares."""

from __future__ import annotations

import math

import triton
import triton.language as tl

LOG2_E = tl.constexpr(math.log2(math.e))


@triton.jit
def load_rows(pointer, stride, index, limit, MASKED: tl.constexpr, DIM: tl.constexpr, WIDTH: tl.constexpr):
    """Return the rows `index` of a matrix as `[len(index), WIDTH]`, zeros beyond `limit` rows and DIM columns."""
    channel = tl.arange(0, WIDTH)
    at = pointer + index[:, None] * stride + channel[None, :]
    if MASKED:
        inside = (index < limit)[:, None]
        if DIM != WIDTH:
            inside = inside & (channel < DIM)[None, :]
        return tl.load(at, mask=inside, other=0.0)
    if DIM != WIDTH:
        return tl.load(at, mask=(channel < DIM)[None, :], other=0.0)
    return tl.load(at)


@triton.jit
def attend(
    q,
    keys,
    values,
    stride_kn,
    stride_vn,
    begin,
    end,
    seen,
    scale,
    top,
    total,
    out,
    MASKED: tl.constexpr,
    N: tl.constexpr,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Attend from the rows `q` to the keys `begin .. end - 1`, N at a time; returns the new `top`, `total`, `out`.

    Of each row: `top` the largest score so far, `total` the sum of the weights and `out` the sum of weights times
    values, both relative to it. `scale` includes log2(e), so scores are in powers of two. MASKED: `end` need not
    complete a tile, and a row sees the keys below its own `seen`; one that has seen none yet has a `top` of minus
    infinity, and a `total` and an `out` of 0.
    """
    step_k = tl.cast(stride_kn, tl.int64)
    step_v = tl.cast(stride_vn, tl.int64)
    within = tl.arange(0, N)
    for start in tl.range(begin, end, N):
        key = load_rows(keys + start * step_k, stride_kn, within, end - start, MASKED, DIM, WIDTH)
        scores = tl.dot(q, tl.trans(key), input_precision="ieee")
        if MASKED:
            scores = tl.where((start + within)[None, :] < seen[:, None], scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1) * scale)
        level = higher
        if MASKED:
            level = tl.where(higher == float("-inf"), 0.0, higher)
        weights = tl.exp2(scores * scale - level[:, None])
        decay = tl.exp2(top - level)
        value = load_rows(values + start * step_v, stride_vn, within, end - start, MASKED, DIM, WIDTH)
        total = total * decay + tl.sum(weights, 1)
        out = tl.dot(weights.to(value.dtype), value, out * decay[:, None], input_precision="ieee")
        top = higher
    return top, total, out
