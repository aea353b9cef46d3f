"""The KV cache: preallocated once, written in place, logical lengths advanced for finished blocks only."""

from __future__ import annotations

import torch
from torch import Tensor

from mage.attention.operations import Lengths
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
        self.valid = Lengths.of([0] * batch, device)
        self._rows = torch.arange(batch, device=device)[:, None]
        self._positions: dict[tuple[int, int], Tensor] = {}
        self._placed: dict[tuple[int, int], Lengths] = {}  # where each of the positions was last told for

    @property
    def lengths(self) -> list[int]:
        """Valid entries of each row."""
        return self.valid.host

    def entries(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return keys and values `[batch, kv_heads, capacity, head_dim]` of a layer, without a copy."""
        return self.keys[layer], self.values[layer]

    def positions(self, entries: int, ahead: int = 0) -> Tensor:
        """Return the last `ahead` positions of each row and where the next `entries` go, `[batch, ahead + entries]`:
        one tensor of each shape, written anew in its place when the lengths have moved."""
        shape = ahead, entries
        if shape not in self._positions:
            self._positions[shape] = self._rows.new_empty((len(self.lengths), ahead + entries))
        if self._placed.get(shape) is not self.valid:
            steps = torch.arange(-ahead, entries, device=self.keys.device)
            torch.add(self.valid.device[:, None], steps, out=self._positions[shape])
            self._placed[shape] = self.valid
        return self._positions[shape]

    def write(self, layer: int, keys: Tensor, values: Tensor, start: int) -> None:
        """Write `[batch, kv_heads, entries, head_dim]` at `start` of every row. Lengths do not move."""
        end = start + keys.shape[2]
        self.keys[layer, :, :, start:end] = keys
        self.values[layer, :, :, start:end] = values

    def append(
        self,
        layer: int,
        keys: Tensor,
        values: Tensor,
        rows: list[bool] | None = None,
        place: Tensor | None = None,
    ) -> None:
        """Write `[batch, kv_heads, entries, head_dim]` behind the valid entries of the batch rows that `rows` names
        (None: all). Lengths do not move: call `advance`. `place` `[batch, entries]`: positions to write at instead, as
        for a block whose lengths were advanced before its commit."""
        place, chosen = self.positions(keys.shape[2]) if place is None else place, self._rows
        if rows is not None and not all(rows):
            kept = [row for row, named in enumerate(rows) if named]
            if not kept:
                return
            chosen = torch.tensor(kept, device=place.device)[:, None]
            place, keys, values = place[kept], keys[kept], values[kept]
        for cached, fresh in ((self.keys, keys), (self.values, values)):
            cached[layer].transpose(1, 2)[chosen, place] = fresh.transpose(1, 2)

    def advance(self, rows: int) -> None:
        """Make `rows` more entries of every row valid."""
        self.valid = Lengths([length + rows for length in self.lengths], self.valid.device.add_(rows))

    def rewind(self, lengths: list[int]) -> None:
        """Forget everything beyond `lengths`: a prefix can be decoded from again."""
        self.valid = Lengths(list(lengths), self.valid.device.copy_(torch.tensor(lengths)))
