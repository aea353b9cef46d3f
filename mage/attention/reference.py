"""Attention in plain torch: the specification of every faster path.

All rows that share one KV head stand together: queries are `[batch, kv_heads, rows, head_dim]` with
`rows = query_group * block rows`. Attention over parts of the keys returns its log-sum-exp beside its output, so that
the parts can be merged exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Elements of a half-precision operand that are upcast at a time: 64 MiB in float32.
UPCAST_ELEMENTS = 2**24
# A product of half-precision tensors with a float32 result: torch 2.8 and later, on a GPU.
HAS_FLOAT32_PRODUCT = hasattr(torch.ops.aten.bmm, "dtype")


def group_rows(x: Tensor, num_kv_heads: int) -> Tensor:
    """Stack the query heads of each KV head: `[batch, heads, n, d]` -> `[batch, kv_heads, group * n, d]`."""
    batch, heads, rows, head_dim = x.shape
    return x.reshape(batch, num_kv_heads, heads // num_kv_heads * rows, head_dim)


def ungroup_rows(x: Tensor, num_heads: int) -> Tensor:
    """Undo `group_rows`: `[batch, kv_heads, group * n, d]` -> `[batch, heads, n, d]`."""
    batch, kv_heads, rows, head_dim = x.shape
    return x.reshape(batch, num_heads, kv_heads * rows // num_heads, head_dim)


def last_rows(x: Tensor, group: int, ahead: int) -> Tensor:
    """Leave out the first `ahead` positions of each query head: `[batch, kv_heads, group * n, ...]`, as `group_rows`
    stacks them, -> `[batch, kv_heads, group * (n - ahead), ...]`."""
    return x.unflatten(2, (group, -1))[:, :, :, ahead:].flatten(2, 3) if ahead else x


def causal_rows(rows: int, group: int, device: torch.device) -> Tensor:
    """Return who sees whom in a causal block of `rows` positions, bool `[group * rows, rows]`, as `group_rows` stacks
    the `group` query heads of a KV head."""
    return torch.ones(rows, rows, dtype=torch.bool, device=device).tril().repeat(group, 1)


def visible_rows(block: int, group: int, device: torch.device, *, causal: bool, ahead: int = 0) -> Tensor | None:
    """Return who sees whom of a block of `block` positions, bool `[group * (ahead + block), block]`, as `group_rows`
    stacks the `group` query heads of a KV head; None when everyone sees all.

    causal: see `causal_rows`. The `ahead` positions that stand before the block see nothing of it.
    """
    if not ahead:
        return causal_rows(block, group, device) if causal else None
    place = torch.arange(-ahead, block, device=device)[:, None]
    seen = place >= torch.arange(block, device=device) if causal else (place >= 0).expand(-1, block)
    return seen.repeat(group, 1)


def float32_product(a: Tensor, b: Tensor) -> Tensor:
    """Return `a @ b` in float32, `[batch, heads, n, m]` @ `[batch, heads, m, p]`, accumulated and kept in float32.

    The model's dtype is that of `b`. Rounding to it would cost as much as everything else in attention, and scores of
    float16 would overflow before they are scaled.
    """
    if b.dtype.itemsize >= 4:
        return (a @ b).float()
    rows, columns = a.flatten(0, 1), b.flatten(0, 1)
    if b.is_cuda and HAS_FLOAT32_PRODUCT:
        return torch.bmm(rows.to(b.dtype), columns, out_dtype=torch.float32).unflatten(0, a.shape[:2])
    out = torch.empty((*rows.shape[:2], columns.shape[2]), dtype=torch.float32, device=b.device)
    tile = max(1, UPCAST_ELEMENTS // max(1, columns.shape[1] * columns.shape[2]))
    for low in range(0, rows.shape[0], tile):
        part = slice(low, low + tile)
        torch.bmm(rows[part].float(), columns[part].float(), out=out[part])
    return out.unflatten(0, a.shape[:2])


def masked_scores(q: Tensor, k: Tensor, scale: float, mask: Tensor | None) -> Tensor:
    """Return float32 scores `[batch, kv_heads, rows, n]`, minus infinity where `mask` (broadcast to it) is False."""
    scores = float32_product(q, k.transpose(-1, -2)).mul_(scale)
    return scores if mask is None else scores.masked_fill(~mask, float("-inf"))


def partial_attention(
    q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attend to one part of the keys.

    `q` `[batch, kv_heads, rows, d]`; `k`, `v` `[batch, kv_heads, n, d]`; `mask` of two or four dimensions, broadcast to
    `[batch, kv_heads, rows, n]`, True where visible. Returns the float32 output `[batch, kv_heads, rows, d]`,
    normalised within the part, and the log-sum-exp of the scores `[batch, kv_heads, rows]`. A part with no visible key
    gives zeros and minus infinity.
    """
    if k.shape[2] == 0:
        return q.new_zeros(q.shape, dtype=torch.float32), q.new_full(q.shape[:3], float("-inf"), dtype=torch.float32)
    scores = masked_scores(q, k, scale, mask)
    if v.dtype.itemsize >= 4:
        lse = scores.logsumexp(-1)
        # A row that sees nothing has lse = -inf; shifting by 0 instead keeps its weights at exp(-inf) = 0.
        weights = (scores - lse.masked_fill(lse == float("-inf"), 0.0)[..., None]).exp()
        return float32_product(weights, v), lse
    # Weights that may be rounded stand relative to the largest, as in flash attention: that one is exact, and small
    # ones do not underflow in float16.
    top = scores.amax(-1, keepdim=True)
    top = top.masked_fill_(top == float("-inf"), 0.0)
    weights = scores.sub_(top).exp_()
    total = weights.sum(-1, keepdim=True)
    lse = (total.log() + top)[..., 0]
    return float32_product(weights, v).div_(total.clamp_(min=torch.finfo(total.dtype).tiny)), lse


def merge(out_a: Tensor, lse_a: Tensor, out_b: Tensor, lse_b: Tensor) -> Tensor:
    """Merge two partial attentions over disjoint keys into the attention over their union."""
    weight_a = torch.sigmoid(lse_a - lse_b)[..., None]
    return out_a * weight_a + out_b * (1.0 - weight_a)
