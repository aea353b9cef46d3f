"""What a method sees of one layer when it selects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from mage.attention.operations import Lengths, Operations
from mage.attention.reference import group_rows, masked_scores
from mage.attention.torch_operations import TorchOperations
from mage.quota import Quota
from mage.selection import check_pages, top_k, top_pages

Reduction = Literal["mean", "max", "mean_query"]
Denominator = Literal["prefix+block", "prefix"]

# Queries of the last prefilled positions that every prefill keeps, so that methods which look at them can share it.
KEPT_QUERIES = 128


@dataclass(frozen=True)
class Forward:
    """Which forward of a generation this is: block and denoising step, both counted from 1.

    A commit forward has `commit=True` and the step number after the last denoising step.
    """

    block: int
    step: int
    commit: bool = False


@dataclass(frozen=True)
class Request:
    """What is fixed for one generation of a batch.

    `prefilled[row]`: prefix entries that the prefill wrote. `question_starts[row]`: where the question starts in the
    prompt. `windows` `[layers, batch, heads, KEPT_QUERIES, head_dim]`: rotated queries of the last prefilled
    positions, the last one at the end. `example_ids`, `seed`: for methods that draw at random.
    """

    block_size: int
    prefilled: list[int]
    question_starts: list[int]
    windows: Tensor
    example_ids: list[str]
    seed: int

    @property
    def num_layers(self) -> int:
        """The number of layers of the model."""
        return self.windows.shape[0]


@dataclass
class View:
    """One layer in one forward.

    `queries` `[batch, heads, rows, d]` and `block_keys` `[batch, kv_heads, rows, d]` of the current block; `keys`
    `[batch, kv_heads, prefix, d]` of the prefix, all rotated; `mask` `[batch, 1, 1, prefix]`, True where valid, or
    None when all rows are equally long; `block_mask` `[group * rows, rows]`, True where a row sees a position of the
    block, or None when it sees all. `prompt_rows` `[batch, rows]`: positions of the block that hold prompt
    tokens. `budgets[row]`: tokens allowed. `lengths[row]`: prefix entries. `lse_prefix`, `lse_block`
    `[batch, kv_heads, group * rows]`: from the exact attention of this forward, when it ran. `state`: the method's
    own, per layer, alive for one generation.

    `operations`: what computes. `cached_keys` `[batch, kv_heads, capacity, d]`: all of the cache that `keys` is the
    first part of, and `cached_lengths`, of which `lengths` are the host's part; None: `keys` are all there is. `quota`:
    what a selection of a method that `is_steady` goes by instead of `budgets` and `lengths`, which are then not those
    of each forward that it serves; None: it goes by those.
    """

    request: Request
    forward: Forward
    layer: int
    scale: float
    queries: Tensor
    keys: Tensor
    block_keys: Tensor
    mask: Tensor | None
    prompt_rows: Tensor
    budgets: list[int]
    lengths: list[int]
    lse_prefix: Tensor | None = None
    lse_block: Tensor | None = None
    block_mask: Tensor | None = None
    state: dict[str, Any] = field(default_factory=dict)
    operations: Operations = field(default_factory=TorchOperations)
    cached_keys: Tensor | None = None
    cached_lengths: Lengths | None = None
    quota: Quota | None = None

    @property
    def num_kv_heads(self) -> int:
        """The number of KV heads of the layer."""
        return self.keys.shape[1]

    @property
    def cache(self) -> tuple[Tensor, Lengths]:
        """The keys `[batch, kv_heads, capacity, d]` and the lengths that the operations take."""
        keys = self.keys if self.cached_keys is None else self.cached_keys
        return keys, self.cached_lengths or Lengths.of(self.lengths, self.keys.device)

    @property
    def place(self) -> tuple[int, ...]:
        """The addresses of what a selection after an exact attention is made by."""
        seen = (self.queries, self.lse_prefix, self.lse_block)
        return tuple(0 if tensor is None else tensor.data_ptr() for tensor in seen)

    @property
    def grouped_queries(self) -> Tensor:
        """The block's queries by KV head, `[batch, kv_heads, group * rows, d]`."""
        return group_rows(self.queries, self.num_kv_heads)

    def probabilities(self, denominator: Denominator = "prefix+block") -> Tensor:
        """Return the attention probability of every prefix key for every row, `[batch, kv_heads, rows, prefix]` with
        `group * block size` rows.

        Uses the log-sum-exp of the exact attention where that ran in this forward, else computes it.
        """
        q = self.grouped_queries
        scores = masked_scores(q, self.keys, self.scale, self.mask)
        lse_prefix, lse_block = self.lse_prefix, self.lse_block
        if lse_prefix is None or lse_block is None:
            lse_prefix = scores.logsumexp(-1)
            lse_block = masked_scores(q, self.block_keys, self.scale, self.block_mask).logsumexp(-1)
        lse = torch.logaddexp(lse_prefix, lse_block) if denominator == "prefix+block" else lse_prefix
        return scores.sub_(lse[..., None]).exp_()

    def mass(self, reduction: Reduction = "mean", denominator: Denominator = "prefix+block") -> Tensor:
        """Return one score per prefix key and KV head, `[batch, kv_heads, n]`: the attention mass of the block. What
        lies beyond a row's length, up to n, is no mass: zero or minus infinity.

        `mean` and `max` reduce the probabilities over the `query group * block size` rows that must share one set
        (MAGE, section "the algorithm": alpha is the mean). `mean_query` averages the queries first, then scores once.
        """
        if reduction == "mean_query":
            query = self.grouped_queries.mean(2, keepdim=True)
            return masked_scores(query, self.keys, self.scale, self.mask).softmax(-1)[:, :, 0]
        if self.lse_prefix is not None and self.lse_block is not None:
            both = denominator == "prefix+block"
            lse = torch.logaddexp(self.lse_prefix, self.lse_block) if both else self.lse_prefix
            keys, lengths = self.cache
            return self.operations.mass(self.grouped_queries, keys, lengths, lse, self.scale, reduction)
        probabilities = self.probabilities(denominator)
        return probabilities.mean(2) if reduction == "mean" else probabilities.amax(2)

    def best(self, scores: Tensor, page_size: int = 1, *, masked: bool = False) -> tuple[Tensor, Tensor | None]:
        """Return the indices of the highest scores within the budgets, and how many they are where a quota says so.

        `scores` `[batch, heads, pages]` over pages of `page_size` consecutive entries, or of single ones. Returns
        `[batch, heads, n]` as `mage.selection.top_pages` and `top_k` do, and the counts of `Quota.best`. masked: scores
        are minus infinity behind a row's length as they come. Raises `UserError` for a budget of less than one page.
        """
        check_pages(page_size, self.budgets, self.lengths)
        if self.quota is not None:
            return self.quota.best(scores, page_size, masked=masked)
        if page_size == 1:
            return top_k(scores, self.budgets, self.lengths), None
        return top_pages(scores, page_size, self.budgets, self.lengths), None
