"""The method contract: what a sparse-attention method declares, and what it is given to select with.

A method says when it selects and returns index sets over the prefix. It never computes attention output: the engine
gathers the selected keys and values once into a compact buffer and attends to them until the next selection.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mage.attention.reference import attention_mass, group_rows, masked_scores
from mage.budget import Budget
from mage.errors import UserError, unknown_choice

Reduction = Literal["mean", "max", "mean_query"]
Denominator = Literal["prefix+block", "prefix"]


@dataclass(frozen=True)
class Forward:
    """Which forward of a generation this is: block and denoising step, both counted from 1.

    A commit forward has `commit=True` and the step number after the last denoising step.
    """

    block: int
    step: int
    commit: bool = False


@dataclass(frozen=True)
class Plan:
    """What the sparse layers do in one forward.

    `exact`: attend to the whole prefix; otherwise to the selected entries. `select`: choose a new set `before`
    attending to it, `after` an exact attention whose log-sum-exp is reused, or not at all.
    """

    exact: bool
    select: Literal["before", "after"] | None = None


EXACT = Plan(exact=True)
REUSE = Plan(exact=False)
SELECT_BEFORE = Plan(exact=False, select="before")
SELECT_AFTER = Plan(exact=True, select="after")


@dataclass(frozen=True)
class Selection:
    """An index set over the prefix.

    `indices` `[batch, heads, k]`, int64, unique within a row, -1 where a row has fewer than k. `heads` is the number
    of KV heads, or of query heads when every query head has a set of its own. `metadata_tokens[row]`: what choosing it
    read, per layer and KV head, in token equivalents (a K and a V vector); all keys without values are half the prefix.
    None: nothing.
    """

    indices: Tensor
    metadata_tokens: list[float] | None = None


@dataclass
class View:
    """What a method sees of one layer when it selects.

    `queries` `[batch, heads, rows, d]` and `block_keys` `[batch, kv_heads, rows, d]` of the current block; `keys`
    `[batch, kv_heads, prefix, d]` of the prefix, all rotated; `mask` `[batch, 1, 1, prefix]`, True where valid, or
    None when all rows are equally long. `prompt_rows` `[batch, rows]`: positions of the block that hold prompt
    tokens. `budgets[row]`: tokens allowed. `prefilled[row]`: prefix entries that the prefill wrote.
    `question_starts[row]`: where the question starts in the prompt. `window`: see `Prefix`. `lse_prefix`, `lse_block`
    `[batch, kv_heads, group * rows]`: from the exact attention of this forward, when it ran. `state`: the method's
    own, per layer, alive for one generation.
    """

    forward: Forward
    layer: int
    scale: float
    block_size: int
    queries: Tensor
    keys: Tensor
    block_keys: Tensor
    mask: Tensor | None
    prompt_rows: Tensor
    budgets: list[int]
    lengths: list[int]
    prefilled: list[int]
    question_starts: list[int]
    window: Tensor
    example_ids: list[str]
    seed: int
    lse_prefix: Tensor | None = None
    lse_block: Tensor | None = None
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def num_kv_heads(self) -> int:
        """The number of KV heads of the layer."""
        return self.keys.shape[1]

    @property
    def grouped_queries(self) -> Tensor:
        """The block's queries by KV head, `[batch, kv_heads, group * rows, d]`."""
        return group_rows(self.queries, self.num_kv_heads)

    def probabilities(self, denominator: Denominator = "prefix+block") -> Tensor:
        """Return the attention probability of every prefix key for every row, `[batch, kv_heads, group * rows,
        prefix]`.

        Uses the log-sum-exp of the exact attention where that ran in this forward, else computes it.
        """
        q = self.grouped_queries
        lse_prefix, lse_block = self.lse_prefix, self.lse_block
        if lse_prefix is None or lse_block is None:
            lse_prefix = masked_scores(q, self.keys, self.scale, self.mask).logsumexp(-1)
            lse_block = masked_scores(q, self.block_keys, self.scale, None).logsumexp(-1)
        lse = torch.logaddexp(lse_prefix, lse_block) if denominator == "prefix+block" else lse_prefix
        return attention_mass(q, self.keys, lse, self.scale, self.mask)

    def mass(self, reduction: Reduction = "mean", denominator: Denominator = "prefix+block") -> Tensor:
        """Return one score per prefix key and KV head, `[batch, kv_heads, prefix]`: the attention mass of the block.

        `mean` and `max` reduce the probabilities over the `query group * block size` rows that must share one set
        (MAGE, section "the algorithm": alpha is the mean). `mean_query` averages the queries first, then scores once.
        """
        if reduction == "mean_query":
            query = self.grouped_queries.mean(2, keepdim=True)
            return masked_scores(query, self.keys, self.scale, self.mask).softmax(-1)[:, :, 0]
        probabilities = self.probabilities(denominator)
        return probabilities.mean(2) if reduction == "mean" else probabilities.amax(2)


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A sparse-attention method. Options common to all:

    `dense_layers`: the first layers, which always attend to the whole prefix. `commit`: whether the forward that
    writes a finished block's K, V attends to the whole prefix (`dense`) or to the method's set (`sparse`).
    """

    uses_budget: ClassVar[bool] = True
    dense_layers: int = 0
    commit: Literal["dense", "sparse"] = "dense"

    def __post_init__(self) -> None:
        self.check_at_least(dense_layers=0)
        self.check_choice("commit", ("dense", "sparse"))

    def check_choice(self, name: str, allowed: tuple[str, ...]) -> None:
        """Raise `UserError` unless the option `name` holds one of `allowed`."""
        if getattr(self, name) not in allowed:
            raise unknown_choice(f"method.{name}", getattr(self, name), allowed)

    def check_at_least(self, **lowest: int) -> None:
        """Raise `UserError` unless each named option holds at least its lowest value."""
        for name, low in lowest.items():
            if getattr(self, name) < low:
                raise UserError(f"method.{name}={getattr(self, name)} is out of range. Allowed: an integer >= {low}.")

    def check_budget(self, budget: Budget) -> None:  # noqa: B027 - most methods work under any budget
        """Raise `UserError` when this method cannot work under `budget`."""

    def plan(self, forward: Forward) -> Plan:
        """Say what the sparse layers do in `forward`: the commit rule here, the denoising steps in `plan_step`."""
        if forward.commit and self.commit == "dense":
            return EXACT
        return self.plan_step(forward)

    @abstractmethod
    def plan_step(self, forward: Forward) -> Plan:
        """Say what the sparse layers do in a denoising step, or in a sparse commit."""

    @abstractmethod
    def select(self, view: View) -> Selection:
        """Choose the prefix entries of one layer, when the plan asks for it and the prefix exceeds the budget."""
