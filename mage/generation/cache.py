"""The KV cache: preallocated once, written in place, logical lengths advanced on commit only."""

from __future__ import annotations

import torch
from torch import Tensor

from mage.models.config import BodyConfig


class KVCache:
    """Keys and values of a batch, per layer `[batch, kv_heads, capacity, head_dim]`, keys after the rotary embedding.

    `lengths[row]` is the number of valid entries of a row. Rows of a batch may differ; what lies beyond a row's length
    is never read.
    """

    def __init__(self, config: BodyConfig, batch: int, capacity: int, device: torch.device, dtype: torch.dtype) -> None:
        shape = (config.num_layers, batch, config.num_kv_heads, capacity, config.head_dim)
        # Zeros, not empty: a masked entry still enters a product with weight 0, and 0 * NaN would be NaN.
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.lengths = [0] * batch

    @property
    def width(self) -> int:
        """The longest row: how many entries a view must hold."""
        return max(self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes held by keys and values."""
        return self.keys.nbytes + self.values.nbytes

    def view(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return keys and values `[batch, kv_heads, width, head_dim]` of a layer, without a copy."""
        return self.keys[layer, :, :, : self.width], self.values[layer, :, :, : self.width]

    def mask(self) -> Tensor | None:
        """Return which entries of the view are valid, `[batch, 1, 1, width]`; None when all rows are equally long."""
        if min(self.lengths) == self.width:
            return None
        lengths = torch.tensor(self.lengths, device=self.keys.device)
        return (torch.arange(self.width, device=self.keys.device) < lengths[:, None])[:, None, None]

    def write(
        self, layer: int, keys: Tensor, values: Tensor, starts: list[int], rows: list[bool] | None = None
    ) -> None:
        """Write `[batch, kv_heads, entries, head_dim]` at `starts[row]` of the batch rows that `rows` names (None:
        all). Lengths do not move: call `advance`."""
        entries = keys.shape[2]
        if len(set(starts)) == 1 and (rows is None or all(rows)):
            self.keys[layer, :, :, starts[0] : starts[0] + entries] = keys
            self.values[layer, :, :, starts[0] : starts[0] + entries] = values
            return
        for row, start in enumerate(starts):
            if rows is None or rows[row]:
                self.keys[layer, row, :, start : start + entries] = keys[row]
                self.values[layer, row, :, start : start + entries] = values[row]

    def advance(self, rows: int) -> None:
        """Make `rows` more entries of every row valid."""
        self.lengths = [length + rows for length in self.lengths]

    def rewind(self, lengths: list[int]) -> None:
        """Forget everything beyond `lengths`: a prefix can be decoded from again."""
        self.lengths = list(lengths)
