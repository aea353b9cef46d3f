"""Triton: the gather of selected entries into a compact buffer."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from mage.attention.kernels.tiles import width_of


@triton.jit(do_not_specialize=["count"])
def gather_kernel(
    keys,
    values,
    indices,
    out_keys,
    out_values,
    count,
    heads,
    share,
    dim,
    stride_kb,
    stride_kh,
    stride_kn,
    stride_vb,
    stride_vh,
    stride_vn,
    stride_ib,
    stride_ih,
    stride_in,
    stride_okb,
    stride_okh,
    stride_okn,
    stride_ovb,
    stride_ovh,
    stride_ovn,
    BLOCK: tl.constexpr,
    DIM: tl.constexpr,
):
    """One program copies BLOCK entries of one head."""
    head = tl.program_id(1)
    row, head = (head // heads).to(tl.int64), (head % heads).to(tl.int64)
    entry = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, DIM)
    inside = entry < count
    index = tl.load(
        indices + row * stride_ib + head * stride_ih + entry.to(tl.int64) * stride_in, mask=inside, other=-1
    )
    index = index.to(tl.int64)
    written = inside[:, None] & (channel < dim)[None, :]
    read = written & (index >= 0)[:, None]
    source = row * stride_kb + (head // share) * stride_kh + index[:, None] * stride_kn + channel[None, :]
    key = tl.load(keys + source, mask=read, other=0.0)
    source = row * stride_vb + (head // share) * stride_vh + index[:, None] * stride_vn + channel[None, :]
    value = tl.load(values + source, mask=read, other=0.0)
    at = entry.to(tl.int64)[:, None]
    tl.store(out_keys + row * stride_okb + head * stride_okh + at * stride_okn + channel[None, :], key, mask=written)
    tl.store(
        out_values + row * stride_ovb + head * stride_ovh + at * stride_ovn + channel[None, :], value, mask=written
    )


def gather_entries(keys: Tensor, values: Tensor, indices: Tensor, out_keys: Tensor, out_values: Tensor) -> None:
    """Write the entries `indices` of `keys`, `values` to `out_keys`, `out_values`; zeros where an index is -1.

    `keys`, `values` `[batch, kv_heads, capacity, d]`, `indices` an integer tensor `[batch, heads, n]`, `out_keys`,
    `out_values` `[batch, heads, n, d]`, each with its last dimension contiguous. `heads` is `kv_heads` or a multiple
    of it: then as many heads in turn read the same KV head.
    """
    batch, heads, count = indices.shape
    dim = keys.shape[-1]
    if count == 0:
        return
    width = width_of(dim)
    block = entries_per_program(count, width)
    gather_kernel[(triton.cdiv(count, block), batch * heads)](
        keys,
        values,
        indices,
        out_keys,
        out_values,
        count,
        heads,
        heads // keys.shape[1],
        dim,
        *keys.stride()[:3],
        *values.stride()[:3],
        *indices.stride(),
        *out_keys.stride()[:3],
        *out_values.stride()[:3],
        BLOCK=block,
        DIM=width,
        num_warps=4,
    )


def entries_per_program(count: int, dim: int) -> int:
    """Return how many entries of `dim` channels one program copies, no more than there are: 2048 numbers are two loads
    of 16 bytes for each thread of four warps, and few enough that a small set is spread over the device."""
    return max(1, min(2048 // dim, triton.next_power_of_2(count)))
