"""The two-stream attention of whole sequences: every block is noised and predicted at once.

Source: M. Arriola et al., "Block Diffusion" (2025); the same mask in Fast-dLLM v2, SDAR and LLaDA2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mage.models.transformer import Transformer


class TwoStream:
    """An `attend` function for rows of the noisy copy followed by the clean copy, `length` tokens each.

    Noisy queries see their own noisy block and all clean blocks before it. Clean queries see clean blocks up to their
    own. `length` must be a multiple of `block_size`.
    """

    def __init__(self, length: int, block_size: int, device: torch.device | str = "cpu") -> None:
        if length % block_size:
            raise ValueError(f"length {length} is not a multiple of the block size {block_size}")
        block = torch.arange(length, device=device) // block_size
        same, before = block[:, None] == block, block[:, None] > block
        noisy = torch.cat((same, before), dim=1)
        clean = torch.cat((torch.zeros_like(same), same | before), dim=1)
        self.mask = torch.cat((noisy, clean))  # [2 length, 2 length], True where a query sees a key

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        group = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)


def two_stream_hidden(body: Transformer, noisy: Tensor, clean: Tensor, block_size: int) -> Tensor:
    """Return final hidden states `[batch, length, hidden]` of the noisy copy; both copies are `[batch, length]`."""
    length = noisy.shape[1]
    attend = TwoStream(length, block_size, noisy.device)
    positions = torch.arange(length, device=noisy.device).repeat(2).expand(noisy.shape[0], -1)
    return body.hidden(torch.cat((noisy, clean), dim=1), positions, attend)[:, :length]
