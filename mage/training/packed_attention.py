"""Attention of a packed lesson: clean rows over the context and their own branch, noised blocks over both.

The clean passes need no gradient: an adapter that works in denoising forwards alone leaves the keys and values of the
prefix as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mage.models.transformer import Transformer
from mage.training.packed import PackedLesson

_HIDDEN = -1e4  # added to a score: nothing is left of it, also in bfloat16


@dataclass(frozen=True)
class CleanRows:
    """`keys`, `values` by layer, `[1, kv_heads, context + rows, head_dim]`; `hidden` `[rows, hidden]` of the branches'
    clean rows."""

    keys: list[Tensor]
    values: list[Tensor]
    hidden: Tensor


@torch.no_grad()
def clean_rows(body: Transformer, lesson: PackedLesson) -> CleanRows:
    """Run the causal body over context and branches of a lesson."""
    keys: list[Tensor] = []
    values: list[Tensor] = []

    def attend_context(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys.append(k)
        values.append(v)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    length, device = lesson.context.numel(), lesson.rows.device
    if length:
        places = torch.arange(length, device=device)[None]
        body.hidden(lesson.context[None], places, attend_context)
    index = torch.arange(lesson.rows.numel(), device=device)
    own = (lesson.branches[:, None] == lesson.branches) & (index[:, None] >= index)
    seen = F.pad(own, (length, 0), value=True)

    def attend_branches(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if length:
            k, v = torch.cat((keys[layer], k), dim=2), torch.cat((values[layer], v), dim=2)
            keys[layer], values[layer] = k, v
        else:
            keys.append(k)
            values.append(v)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)

    hidden = body.hidden(lesson.rows[None], lesson.positions[None], attend_branches)[0]
    return CleanRows(keys, values, hidden)


class PackedBlocks:
    """An `attend` function for the rows of noised blocks, `[1, heads, blocks * block_size, head_dim]`.

    Each block sees the clean rows that its lesson gives it, and itself as a whole. Written as matrix products with
    separate scores for the block itself: twice as fast on a CPU as a masked call over all rows.
    """

    def __init__(self, lesson: PackedLesson, clean: CleanRows, dtype: torch.dtype) -> None:
        self._clean, self._blocks, self._size = clean, *lesson.noised.shape
        index = torch.arange(lesson.rows.numel(), device=lesson.rows.device)
        branch = lesson.branches[lesson.starts]
        seen = (lesson.branches == branch[:, None]) & (index < lesson.starts[:, None])
        hidden = F.pad(~seen, (lesson.context.numel(), 0), value=False)
        self._bias = (hidden * _HIDDEN).to(dtype).repeat_interleave(self._size, dim=0)  # [blocks * size, clean rows]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = self._clean.keys[layer][0], self._clean.values[layer][0]
        kv_heads, rows, clean = keys.shape[0], q.shape[2], keys.shape[1]
        grouped = (q[0] * q.shape[-1] ** -0.5).unflatten(0, (kv_heads, -1))  # [kv_heads, group, rows, d]
        group = grouped.shape[1]
        on_clean = (grouped.flatten(1, 2) @ keys.mT).unflatten(1, (group, rows)).add_(self._bias)
        shape = (self._blocks, self._size)
        blocks_q = grouped.unflatten(2, shape).transpose(1, 2).flatten(2, 3)  # [kv_heads, blocks, group * size, d]
        blocks_k, blocks_v = k[0].unflatten(1, shape), v[0].unflatten(1, shape)  # [kv_heads, blocks, size, d]
        on_block = (blocks_q @ blocks_k.mT).unflatten(2, (group, self._size)).transpose(1, 2).flatten(2, 3)
        mass = torch.softmax(torch.cat((on_clean, on_block), dim=-1), dim=-1)
        clean_mass, block_mass = mass.split((clean, self._size), dim=-1)
        out = (clean_mass.flatten(1, 2) @ values).unflatten(1, (group, rows))
        own = block_mass.unflatten(2, shape).transpose(1, 2).flatten(2, 3) @ blocks_v
        own = own.unflatten(2, (group, self._size)).transpose(1, 2).flatten(2, 3)
        return (out + own).flatten(0, 1)[None]


def block_hidden(body: Transformer, lesson: PackedLesson, clean: CleanRows) -> Tensor:
    """Return final hidden states `[blocks, block_size, hidden]` of the noised blocks under the adapted `body`."""
    count, size = lesson.noised.shape
    within = torch.arange(size, device=lesson.rows.device)
    places = lesson.positions[lesson.starts][:, None] + within
    attend = PackedBlocks(lesson, clean, body.lm_head.weight.dtype)
    hidden = body.hidden(lesson.noised.view(1, -1), places.view(1, -1), attend)
    return hidden.view(count, size, -1)
