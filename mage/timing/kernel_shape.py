"""The shape that kernels are timed on, and random operands of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from mage.attention.reference import group_rows
from mage.budget import Budget
from mage.generation.cache import KVCache
from mage.models.config import BodyConfig


@dataclass(frozen=True, kw_only=True)
class KernelShape:
    """One layer of `body` at work: `batch` rows, a prefix of `context` entries each, blocks of `block_size` positions,
    of which `budget` prefix entries are read in a sparse step; pages of `page_size` entries."""

    body: BodyConfig
    block_size: int
    context: int
    batch: int
    budget: Budget
    page_size: int = 16

    @property
    def entries(self) -> int:
        """Entries that a sparse step reads in each KV head."""
        return min(self.budget.resolve(self.context), self.context)

    @property
    def pages(self) -> int:
        """Pages of a prefix."""
        return -(-self.context // self.page_size)

    @property
    def heads(self) -> int:
        """KV heads of all rows together."""
        return self.batch * self.body.num_kv_heads

    @property
    def rows(self) -> int:
        """Query rows that share a KV head."""
        return self.body.num_heads // self.body.num_kv_heads * self.block_size


class Operands:
    """Random operands, made when they are first asked for. `scale` is that of the scores.

    Keys and queries are standard normal, so that the log-sum-exp of a row is close to ln(context) + 1/2.
    """

    def __init__(self, shape: KernelShape, device: torch.device, dtype: torch.dtype, seed: int = 0) -> None:
        self.shape, self.device, self.dtype = shape, device, dtype
        self.scale = float(shape.body.head_dim**-0.5)
        self._generator = torch.Generator(device).manual_seed(seed)
        self._block = self.normal(
            2, shape.batch, shape.body.num_kv_heads, shape.block_size, shape.body.head_dim
        )  # the block's own keys and values

    def normal(self, *sizes: int) -> Tensor:
        """Draw a tensor."""
        return torch.randn(sizes, generator=self._generator, device=self.device, dtype=self.dtype)

    @cached_property
    def cache(self) -> KVCache:
        """A cache of one layer that holds the prefix, with the block's keys and values behind it."""
        shape = self.shape
        one_layer = replace(shape.body, num_layers=1, experts=None)
        cache = KVCache(one_layer, shape.batch, shape.context + shape.block_size, self.device, self.dtype)
        for kept in (cache.keys, cache.values):
            kept.normal_(generator=self._generator)
        cache.write(0, self._block[0], self._block[1], shape.context)
        cache.rewind([shape.context] * shape.batch)
        return cache

    @property
    def block(self) -> tuple[Tensor, Tensor]:
        """The block's own keys and values `[batch, kv_heads, block_size, d]`."""
        return self._block[0], self._block[1]

    @cached_property
    def queries(self) -> Tensor:
        """The block's queries `[batch, heads, block_size, d]`."""
        return self.normal(self.shape.batch, self.shape.body.num_heads, self.shape.block_size, self.shape.body.head_dim)

    @cached_property
    def fused_queries(self) -> Tensor:
        """Queries of the block before and of the block `[batch, heads, 2 * block_size, d]`."""
        sizes = (self.shape.batch, self.shape.body.num_heads, 2 * self.shape.block_size, self.shape.body.head_dim)
        return self.normal(*sizes)

    @property
    def grouped(self) -> Tensor:
        """The same by KV head, `[batch, kv_heads, rows, d]`."""
        return group_rows(self.queries, self.shape.body.num_kv_heads)

    @cached_property
    def lse(self) -> Tensor:
        """A plausible log-sum-exp `[batch, kv_heads, rows]`."""
        level = float(torch.tensor(self.shape.context + self.shape.block_size).log()) + 0.5
        sizes = (self.shape.batch, self.shape.body.num_kv_heads, self.shape.rows)
        return torch.full(sizes, level, device=self.device)

    @cached_property
    def mass(self) -> Tensor:
        """Attention mass as good as any, float32 `[batch, kv_heads, context]`."""
        sizes = (self.shape.batch, self.shape.body.num_kv_heads, self.shape.context)
        return torch.rand(sizes, generator=self._generator, device=self.device)

    @cached_property
    def indices(self) -> Tensor:
        """A set of entries in ascending order, int64 `[batch, kv_heads, entries]`."""
        return self.mass.topk(self.shape.entries, -1).indices.sort(-1).values

    @cached_property
    def compact(self) -> tuple[Tensor, Tensor]:
        """Buffers of the selected keys and values, filled with others."""
        sizes = (self.shape.batch, self.shape.body.num_kv_heads, self.shape.entries, self.shape.body.head_dim)
        return self.normal(*sizes), self.normal(*sizes)

    @cached_property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest key of each page, `[batch, kv_heads, pages, d]`."""
        sizes = (2, self.shape.batch, self.shape.body.num_kv_heads, self.shape.pages, self.shape.body.head_dim)
        low, high = self.normal(*sizes).sort(0).values
        return low, high
