"""The operations of attention that an implementation offers: plain torch, or Triton kernels.

Queries come grouped by KV head, `[batch, kv_heads, rows, d]` with `rows = query group * block rows`, head by head (see
`group_rows`): row r is position `r % block rows` of the block. Some operations take queries of `ahead` positions more,
which stand before the block in each head: their keys and values are the last `ahead` entries of the prefix, which is
then no shorter than that, and they see all of the prefix and nothing of the block. Keys and values of the prefix are
those of the whole cache of a layer, `[batch, kv_heads, capacity, d]`, of which row b has `lengths.device[b]` entries:
no shape depends on how long a prefix is, so that a forward can be captured once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Lengths:
    """Valid entries of each batch row: on the `host`, and on the `device` as int32 `[batch]`."""

    host: list[int]
    device: Tensor

    @classmethod
    def of(cls, host: Sequence[int], device: torch.device) -> Lengths:
        """Bring `host` to the device."""
        return cls(list(host), torch.tensor(host, dtype=torch.int32, device=device))

    @property
    def widest(self) -> int:
        """Entries of the longest row."""
        return max(self.host)

    @cached_property
    def mask(self) -> Tensor | None:
        """Which of the first `widest` entries are valid, bool `[batch, 1, 1, widest]`; None when all of them are."""
        if min(self.host) == self.widest:
            return None
        return (torch.arange(self.widest, device=self.device.device) < self.device[:, None])[:, None, None]


@dataclass(frozen=True)
class Attended:
    """What exact attention gives: `out` `[batch, kv_heads, rows, d]` in the dtype of the queries, and the float32
    log-sum-exp `[batch, kv_heads, rows]` of the scores of prefix and block, minus infinity where there is no key."""

    out: Tensor
    lse_prefix: Tensor
    lse_block: Tensor


class Operations(ABC):
    """One implementation. Every operation of every implementation computes what `TorchOperations` computes."""

    name: ClassVar[Literal["torch", "triton"]]
    static: ClassVar[bool]  # whether operations read lengths on the device alone, so that a captured one stays right

    @abstractmethod
    def exact(
        self,
        q: Tensor,
        keys: Tensor,
        values: Tensor,
        lengths: Lengths,
        k: Tensor,
        v: Tensor,
        scale: float,
        causal: bool,
        ahead: int = 0,
    ) -> Attended:
        """Attend to the whole prefix and to the block's own `k`, `v` `[batch, kv_heads, block rows, d]`.

        causal: a position sees the block up to itself; otherwise it sees all of it. The prefix is always seen whole.
        """

    @abstractmethod
    def sparse(
        self,
        q: Tensor,
        keys: Tensor,
        values: Tensor,
        counts: Tensor | None,
        k: Tensor,
        v: Tensor,
        scale: float,
        causal: bool,
    ) -> Tensor:
        """Attend to a compact buffer and to the block. `keys`, `values` `[batch, heads, n, d]`, with `heads` the KV
        heads, or the query heads where each has a set of its own. `counts` int32 `[batch, heads]`: the first so many
        entries are valid (None: all). Returns `[batch, kv_heads, rows, d]` in the dtype of the queries."""

    @abstractmethod
    def prefix(
        self,
        q: Tensor,
        keys: Tensor,
        values: Tensor,
        lengths: Lengths,
        scale: float,
        out: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Attend to the prefix alone. Returns the float32 output `[batch, kv_heads, rows, d]`, normalised, and the
        log-sum-exp `[batch, kv_heads, rows]`, written to `out` where given; zeros and minus infinity where there is no
        key."""

    @abstractmethod
    def in_block(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        prefix: tuple[Tensor, Tensor],
        scale: float,
        causal: bool,
        ahead: int = 0,
    ) -> Tensor:
        """Attend to the block alone, and merge that with what the operation `prefix` gave, for these queries or others.
        Returns `[batch, kv_heads, rows, d]` in the dtype of the queries."""

    @abstractmethod
    def mass(
        self, q: Tensor, keys: Tensor, lengths: Lengths, lse: Tensor, scale: float, reduction: Literal["mean", "max"]
    ) -> Tensor:
        """Return the probability exp(q . key * scale - lse) of every entry, reduced over the rows, float32
        `[batch, kv_heads, n]` with `n >= lengths.widest`; minus infinity beyond a row's length. `lse` `[batch,
        kv_heads, rows]`. (MAGE: alpha is the mean over the query group and the block.)"""

    @abstractmethod
    def gather(
        self, keys: Tensor, values: Tensor, indices: Tensor, out: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the entries `indices` int64 `[batch, heads, n]` of the prefix as `[batch, heads, n, d]`, written to
        `out` where given; zeros where an index is -1."""

    @abstractmethod
    def page_bounds(
        self, keys: Tensor, lengths: Lengths, page_size: int, first_page: int, out: tuple[Tensor, Tensor]
    ) -> None:
        """Write the smallest and the largest key of each page from `first_page` on to `out`, two tensors `[batch,
        kv_heads, pages, d]`, per channel, over the valid entries; zeros for a page without any."""

    @abstractmethod
    def page_scores(self, q: Tensor, low: Tensor, high: Tensor, reduction: Literal["sum", "max"]) -> Tensor:
        """Return sum_d max(q_d low_d, q_d high_d) of every page, reduced over the rows, float32 `[batch, kv_heads,
        pages]` (Quest, section 3)."""

    @abstractmethod
    def prefill(self, q: Tensor, k: Tensor, v: Tensor, start: int, block_size: int) -> Tensor:
        """Attend block-causally: see `mage.attention.prefill`."""
