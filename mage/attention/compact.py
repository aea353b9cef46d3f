"""The selected entries of one layer in a buffer of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mage.attention.operations import Operations
from mage.method import Selection
from mage.row_values import row_values


@dataclass
class CompactPrefix:
    """The selected keys and values of one layer, gathered once: `[batch, heads, n, d]`.

    `counts` int32 `[batch, heads]`: how many of them are valid, the first ones; None when all are. `indices`: where
    they stand in the prefix. `reads`: entries read per forward, by batch row, in tokens of one KV head. `fewest`:
    entries of the head that has fewest, by batch row. `share`: heads of the buffer over KV heads.
    """

    keys: Tensor
    values: Tensor
    counts: Tensor | None
    indices: Tensor
    reads: list[float]
    fewest: list[int]
    share: int

    @classmethod
    def gather(
        cls,
        operations: Operations,
        keys: Tensor,
        values: Tensor,
        selection: Selection,
        earlier: CompactPrefix | None = None,
    ) -> CompactPrefix:
        """Gather `selection` from the prefix `keys`, `values` `[batch, kv_heads, entries, d]`.

        `earlier`: the buffers of another set, which are written over where they have the same shape.
        """
        indices = selection.indices
        _, heads, width = indices.shape
        share = heads // keys.shape[1]  # 1, or the query group when every query head has its own set
        if selection.sizes is not None:
            held = [[size] * heads for size in selection.sizes]
        else:
            held = (indices >= 0).sum(2).tolist()  # the one wait for the device
        fewest = [min(row) for row in held]
        if selection.counts is not None:
            counts: Tensor | None = selection.counts[:, None].repeat(1, heads)
        else:
            counts = None if min(fewest) == width else _counts(selection)
        out = None
        if earlier is not None and earlier.indices.shape == indices.shape:
            out = earlier.keys, earlier.values
            if counts is not None and earlier.counts is not None:
                counts = earlier.counts.copy_(counts)
        gathered = operations.gather(keys, values, indices, out)
        return cls(*gathered, counts, indices, [sum(row) * share / heads for row in held], fewest, share)

    def holding(self, sizes: list[int] | None) -> CompactPrefix:
        """Return the same buffer as one that holds `sizes[row]` entries of every head (None: as many as before): it was
        written over without the host."""
        return self if sizes is None else replace(self, reads=[size * self.share for size in sizes], fewest=sizes)

    @property
    def place(self) -> tuple[object, ...]:
        """What a captured forward that attends to this buffer has of it: the addresses and the shape."""
        counts = 0 if self.counts is None else self.counts.data_ptr()
        return self.keys.shape, self.keys.data_ptr(), self.values.data_ptr(), counts


def _counts(selection: Selection) -> Tensor:
    batch, heads, _ = selection.indices.shape
    if selection.sizes is None:
        return (selection.indices >= 0).sum(2, dtype=torch.int32)
    sizes = row_values(selection.sizes, selection.indices.device).to(torch.int32)
    return sizes[:, None].expand(batch, heads).contiguous()
