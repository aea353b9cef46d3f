"""Attention to one part of the keys by torch's fused kernel for CPUs: what the reference computes, faster."""

from __future__ import annotations

import torch
from torch import Tensor

from mage.attention.reference import partial_attention


def fused_partial_attention(
    q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return what `partial_attention` does of the same arguments; `mask` may have as many rows as `q`, too.

    By the kernel behind torch's scaled dot product attention, which also tells the log-sum-exp, on a CPU in float32
    and without gradients. All else goes to the reference: of shorter dtypes the kernel would round each part.
    """
    fused = q.device.type == "cpu" and q.dtype == k.dtype == v.dtype == torch.float32
    if not fused or torch.is_grad_enabled() or k.shape[2] == 0 or q.numel() == 0:
        return partial_attention(q, k, v, scale, mask)
    added = None if mask is None else torch.zeros(mask.shape).masked_fill_(~mask, float("-inf"))
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, attn_mask=added, scale=scale)
    if mask is not None:  # of a row that sees nothing the kernel says 0
        lse = lse.masked_fill(~mask.any(-1), float("-inf"))
    return out, lse
