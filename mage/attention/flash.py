"""Attention to one part of the keys by torch's fused kernel for CPUs: what the reference computes, faster."""

from __future__ import annotations

import torch
from torch import Tensor

from mage.attention.reference import partial_attention


def fused_partial_attention(
    q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return what `partial_attention` does of the same arguments. Keys and values that are masked must be finite.

    By the kernel behind torch's scaled dot product attention, which also tells the log-sum-exp, on a CPU in float32
    and without gradients. All else goes to the reference: of shorter dtypes the kernel would round each part.
    """
    if torch.is_grad_enabled() or k.shape[2] == 0 or q.numel() == 0 or not _is_served(q, k, v):
        return partial_attention(q, k, v, scale, mask)
    added = None if mask is None else q.new_zeros(mask.shape).masked_fill_(~mask, float("-inf"))
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, attn_mask=added, scale=scale)
    if mask is not None:  # of a row that sees nothing the kernel says 0
        lse = lse.masked_fill(~mask.any(-1), float("-inf"))
    return out, lse


def _is_served(*tensors: Tensor) -> bool:
    """Whether the kernel serves queries, keys and values. It does not ask: it would read past what they are."""
    first = tensors[0]
    return (
        all(
            x.device.type == "cpu"
            and x.dtype == torch.float32
            and x.stride(-1) == 1
            and x.shape[:2] == first.shape[:2]
            and x.shape[3] == first.shape[3]
            for x in tensors
        )
        and tensors[1].shape == tensors[2].shape
    )
