"""Attention of many short branches over one clean context, computed as separate matrix products.

A retrieval question costs a block or two, its context a thousand tokens. Here one context serves many questions: every
branch sees the context and itself, never another branch. A mask over all rows would compute mostly what it then hides.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mage.models.transformer import Transformer

# Rows of the context attended in one product: keys that no row of the tile can see are skipped.
TILE_ROWS = 256


class SharedPrefix:
    """An `attend` function for rows of a context followed by its branches.

    Rows: `length` tokens of the context, then `branches` times `blocks * block_size` tokens. Attention is block-causal
    in the context, and in each branch behind the context. Only the last block of each branch is used after the last
    layer: there the other rows get zeros.
    """

    def __init__(self, length: int, branches: int, blocks: int, block_size: int, last_layer: int) -> None:
        self.length, self.branches, self.blocks = length, branches, blocks
        self.block_size, self.last_layer = block_size, last_layer

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        last = layer == self.last_layer
        # Split, not sliced: the gradient of a split is one concatenation.
        sizes = (self.length, q.shape[2] - self.length)
        context_q, branch_q = (q * q.shape[3] ** -0.5).split(sizes, dim=2)
        context_k, branch_k = k.split(sizes, dim=2)
        context_v, branch_v = v.split(sizes, dim=2)
        context = torch.zeros_like(context_q) if last else self._context(context_q, context_k, context_v)
        return torch.cat((context, self._branches(branch_q, branch_k, branch_v, context_k, context_v, last)), dim=2)

    def _context(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        length, kv_heads = q.shape[2], k.shape[1]
        grouped = q.unflatten(1, (kv_heads, -1))  # [batch, kv_heads, group, length, width]
        pieces = []
        for low, tile in zip(range(0, length, TILE_ROWS), grouped.split(TILE_ROWS, dim=3), strict=True):
            rows = tile.shape[3]
            seen_k, seen_v = (k, v) if low + rows == length else (k[:, :, : low + rows], v[:, :, : low + rows])
            scores = (tile.flatten(2, 3) @ seen_k.transpose(-1, -2)).unflatten(2, (-1, rows))
            # Only the tile's own square holds keys of later blocks. Written behind autograd's back: the softmax gives
            # these scores no gradient anyway.
            block = torch.arange(rows, device=q.device) // self.block_size
            scores.detach()[..., low:].masked_fill_(block[:, None] < block, float("-inf"))
            pieces.append((torch.softmax(scores, dim=-1).flatten(2, 3) @ seen_v).unflatten(2, (-1, rows)))
        return torch.cat(pieces, dim=3).flatten(1, 2)

    def _branches(self, q: Tensor, k: Tensor, v: Tensor, context_k: Tensor, context_v: Tensor, last: bool) -> Tensor:
        """Return `[batch, heads, branches * blocks * block_size, width]`."""
        size, kv_heads = self.block_size, k.shape[1]
        shape = (self.branches, self.blocks * size)
        k, v = k.unflatten(2, shape), v.unflatten(2, shape)
        blocks = q.unflatten(1, (kv_heads, -1)).unflatten(3, shape).split(size, dim=4)
        pieces = []
        for index, block in enumerate(blocks):  # [batch, kv_heads, group, branches, block_size, width]
            if index + 1 == self.blocks:
                own_k, own_v = k, v
            elif last:
                pieces.append(torch.zeros_like(block))
                continue
            else:
                own_k, own_v = k[:, :, :, : (index + 1) * size], v[:, :, :, : (index + 1) * size]
            rows = block.transpose(2, 3).flatten(3, 4)  # [batch, kv_heads, branches, group * block_size, width]
            on_context = (rows.flatten(2, 3) @ context_k.transpose(-1, -2)).unflatten(2, (self.branches, -1))
            mass = torch.softmax(torch.cat((on_context, rows @ own_k.transpose(-1, -2)), dim=-1), dim=-1)
            context_mass, own_mass = mass.split((self.length, mass.shape[-1] - self.length), dim=-1)
            out = (context_mass.flatten(2, 3) @ context_v).unflatten(2, (self.branches, -1)) + own_mass @ own_v
            pieces.append(out.unflatten(3, (-1, size)).transpose(2, 3))
        return torch.cat(pieces, dim=4).flatten(3, 4).flatten(1, 2)


def shared_prefix_hidden(
    body: Transformer, contexts: Tensor, positions: Tensor, branches: Tensor, block_size: int
) -> Tensor:
    """Return final hidden states `[batch, branches, block_size, hidden]` of the last block of each branch.

    contexts, positions `[batch, length]`; branches `[batch, branches, blocks * block_size]` stand behind the context's
    last position.
    """
    batch, length = contexts.shape
    count, width = branches.shape[1:]
    behind = positions[:, -1:, None] + 1 + torch.arange(width, device=positions.device)
    places = torch.cat((positions, behind.expand(batch, count, width).flatten(1)), dim=1)
    attend = SharedPrefix(length, count, width // block_size, block_size, body.config.num_layers - 1)
    hidden = body.hidden(torch.cat((contexts, branches.flatten(1)), dim=1), places, attend)
    return hidden[:, length:].unflatten(1, (count, width))[:, :, -block_size:]
