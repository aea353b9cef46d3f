"""A prefix of random keys and values, in place of a KV cache, and attention by the book."""

from __future__ import annotations

import torch
from torch import Tensor

from mage.attention.operations import Lengths


class RandomPrefix:
    """Random keys and values `[layers, batch, kv_heads, prefix, d]`; `lengths[row]` of them are valid."""

    def __init__(self, lengths: list[int], kv_heads: int, head_dim: int, layers: int = 1) -> None:
        self.lengths, self.width = lengths, max(lengths)
        self.valid = Lengths.of(lengths, torch.device("cpu"))
        torch.manual_seed(3)
        self.keys, self.values = torch.randn(2, layers, len(lengths), kv_heads, self.width, head_dim)
        self.written: list[Tensor] = []

    def entries(self, layer: int) -> tuple[Tensor, Tensor]:
        return self.keys[layer], self.values[layer]

    def append(self, layer: int, keys: Tensor, values: Tensor, rows: list[bool] | None = None) -> None:
        self.written.append(keys)


def attend_to(q: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
    """One row `q` `[d]` attends to the entries of all `keys`, `values` `[n, d]`."""
    return torch.softmax(torch.cat(keys) @ q * q.shape[-1] ** -0.5, 0) @ torch.cat(values)
