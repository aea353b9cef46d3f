"""Attention in plain torch: the specification of every faster path, and the path taken on a CPU.

All rows that share one KV head stand together: queries are `[batch, kv_heads, rows, head_dim]` with
`rows = query_group * block rows`. Attention over parts of the keys returns its log-sum-exp beside its output, so that
the parts can be merged exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor


def group_rows(x: Tensor, num_kv_heads: int) -> Tensor:
    """Stack the query heads of each KV head: `[batch, heads, n, d]` -> `[batch, kv_heads, group * n, d]`."""
    batch, heads, rows, head_dim = x.shape
    return x.reshape(batch, num_kv_heads, heads // num_kv_heads * rows, head_dim)


def ungroup_rows(x: Tensor, num_heads: int) -> Tensor:
    """Undo `group_rows`: `[batch, kv_heads, group * n, d]` -> `[batch, heads, n, d]`."""
    batch, kv_heads, rows, head_dim = x.shape
    return x.reshape(batch, num_heads, kv_heads * rows // num_heads, head_dim)


def masked_scores(q: Tensor, k: Tensor, scale: float, mask: Tensor | None) -> Tensor:
    """Return float32 scores `[batch, kv_heads, rows, n]`, minus infinity where `mask` (broadcast to it) is False."""
    scores = (q @ k.transpose(-1, -2)).float().mul_(scale)
    return scores if mask is None else scores.masked_fill(~mask, float("-inf"))


def partial_attention(
    q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attend to one part of the keys.

    `q` `[batch, kv_heads, rows, d]`; `k`, `v` `[batch, kv_heads, n, d]`; `mask` `[batch, 1|kv_heads, 1, n]`, True where
    visible. Returns the float32 output `[batch, kv_heads, rows, d]`, normalised within the part, and the log-sum-exp of
    the scores `[batch, kv_heads, rows]`. A part with no visible key gives zeros and minus infinity.
    """
    if k.shape[2] == 0:
        return q.new_zeros(q.shape, dtype=torch.float32), q.new_full(q.shape[:3], float("-inf"), dtype=torch.float32)
    scores = masked_scores(q, k, scale, mask)
    lse = scores.logsumexp(-1)
    # A row that sees nothing has lse = -inf; shifting by 0 instead keeps its weights at exp(-inf) = 0.
    weights = (scores - lse.masked_fill(lse == float("-inf"), 0.0)[..., None]).exp()
    return (weights.to(v.dtype) @ v).float(), lse


def merge(out_a: Tensor, lse_a: Tensor, out_b: Tensor, lse_b: Tensor) -> Tensor:
    """Merge two partial attentions over disjoint keys into the attention over their union."""
    weight_a = torch.sigmoid(lse_a - lse_b)[..., None]
    return out_a * weight_a + out_b * (1.0 - weight_a)
