"""Keys and values of the clean tokens before each block of a training step: the prefix that decoding would have."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mage.attention.operations import Lengths
from mage.attention.prefill import block_causal_attention
from mage.attention.reference import group_rows, ungroup_rows
from mage.models.transformer import Transformer
from mage.training.examples import Examples


class CleanPrefix:
    """What block attention reads, by layer: `keys`, `values` `[n, kv_heads, width, head_dim]`, which may carry a
    gradient. `lengths[row]` entries of a row count."""

    def __init__(self, keys: list[Tensor], values: list[Tensor], lengths: list[int]) -> None:
        self.keys, self.values, self.lengths = keys, values, lengths
        self.valid = Lengths.of(lengths, keys[0].device)

    def entries(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return keys and values of a layer. Where no gradient is recorded they have none: what is kept of them, for a
        selection that is made later, stays free of it."""
        keys, values = self.keys[layer], self.values[layer]
        return (keys, values) if torch.is_grad_enabled() else (keys.detach(), values.detach())

    def append(self, layer: int, keys: Tensor, values: Tensor, rows: list[bool] | None = None) -> None:
        """Raise: training commits nothing."""
        raise RuntimeError("the clean prefix of a training step is not written to")


def clean_prefix(body: Transformer, examples: Examples, unit: int) -> CleanPrefix:
    """Run `body` over contexts and tails.

    unit: tokens that see each other, the block size or 1 (causal). Contexts, and tails that are longer than one unit,
    start at multiples of it. A context is computed once for all of its blocks.
    """
    keys: list[Tensor] = []
    values: list[Tensor] = []
    count, width = examples.tails.shape
    branches = count // len(examples.contexts)

    def attend_context(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys.append(k.repeat_interleave(branches, dim=0))
        values.append(v.repeat_interleave(branches, dim=0))
        return block_causal_attention(q, k, v, 0, unit)

    body.hidden(examples.contexts, examples.positions, attend_context)
    if width:
        place = torch.arange(width, device=examples.tails.device)
        seen = F.pad(place[:, None] // unit >= place // unit, (examples.contexts.shape[1], 0), value=True)

        def attend_tail(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            k, v = torch.cat((keys[layer], k), dim=2), torch.cat((values[layer], v), dim=2)
            keys[layer], values[layer] = k, v
            grouped, mask = group_rows(q, k.shape[1]), seen.repeat(q.shape[1] // k.shape[1], 1)
            return ungroup_rows(F.scaled_dot_product_attention(grouped, k, v, attn_mask=mask), q.shape[1])

        body.hidden(examples.tails, examples.behind_context()[:, None] + place, attend_tail)
    return CleanPrefix(keys, values, examples.lengths)
