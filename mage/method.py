"""The method contract: what a sparse-attention method declares.

A method says when it selects and returns index sets over the prefix. It never computes attention output: the engine
gathers the selected keys and values once into a compact buffer and attends to them until the next selection. A set is
chosen when it is first attended to: a block that is finished before that pays for no selection.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from mage.attention.operations import Lengths, Operations
from mage.budget import Budget
from mage.errors import UserError, unknown_choice
from mage.selection import sizes_of
from mage.view import Forward, View


@dataclass(frozen=True)
class Plan:
    """What the sparse layers do in one forward.

    `exact`: attend to the whole prefix; otherwise to the selected entries. `select`: choose a new set `before`
    attending to it; `after` an exact attention whose log-sum-exp is reused, from what was seen then; or not at all.
    `prefix`: what becomes of the prefix's part of attention: `keep` that of an exact one, or `reuse` what was kept last
    in this block, in place of entries of the prefix; exact attention where nothing was.
    """

    exact: bool
    select: Literal["before", "after"] | None = None
    prefix: Literal["keep", "reuse"] | None = None


EXACT = Plan(exact=True)
REUSE = Plan(exact=False)
SELECT_BEFORE = Plan(exact=False, select="before")
SELECT_AFTER = Plan(exact=True, select="after")
KEEP_PREFIX = Plan(exact=True, prefix="keep")
REUSE_PREFIX = Plan(exact=False, prefix="reuse")


Scorers = Literal["nothing", "positions", "query_heads", "kv_heads"]
"""What is multiplied with each vector that a selection reads: every position of every query head, one vector of each
query head or of each KV head, into which its positions went together, or nothing."""


class SelectionError(RuntimeError):
    """A method broke the contract: its index set is not one, or exceeds the budget."""


@dataclass(frozen=True)
class Selection:
    """An index set over the prefix.

    `indices` `[batch, heads, k]`, int64, unique within a row, -1 at its end where a row has fewer than k. `heads` is
    the number of KV heads, or of query heads when every query head has a set of its own. `metadata_tokens[row]`: what
    choosing it read, per layer and KV head, in token equivalents (a K and a V vector); all keys without values are half
    the prefix. None: nothing. `pools[row]`: the budget counts entries before this one; what follows is kept besides, as
    by a method that compressed the prompt once. None: the budget counts everything. `sizes[row]`: entries of every
    head, where the method knows them; None: they are counted, which waits for the device. `counts` int32 `[batch]`: the
    same on the device, where a set may have padding and is chosen by a quota; None: there is no need of it.
    """

    indices: Tensor
    metadata_tokens: list[float] | None = None
    pools: list[int] | None = None
    sizes: list[int] | None = None
    counts: Tensor | None = None

    def check(self, view: View, *, limited: bool) -> None:
        """Raise `SelectionError` unless the indices keep the contract; the budget of a layer counts when `limited`.

        Waits for the device once.
        """
        indices, heads = self.indices, (view.num_kv_heads, view.queries.shape[1])
        lengths = torch.tensor(view.lengths, device=indices.device)[:, None, None]
        if indices.dim() != 3 or indices.shape[0] != len(view.lengths) or indices.shape[1] not in heads:
            raise SelectionError(f"indices of shape {tuple(indices.shape)}, not [{len(view.lengths)}, {heads[0]}, k]")
        ordered = indices.sort(-1).values
        outside = ((indices < -1) | (indices >= lengths)).flatten(1).any(1)
        twice = ((ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] >= 0)).flatten(1).any(1)
        kept = indices >= 0
        behind, held = (kept[..., 1:] & ~kept[..., :-1]).flatten(1).any(1), kept.sum(-1)
        found = torch.stack((outside, twice, held.amin(1), held.amax(1), self._counted(), behind)).tolist()
        if any(found[0]):
            raise SelectionError(f"an index outside the prefix of {view.lengths} entries")
        if any(found[1]):
            raise SelectionError("an index twice in one set")
        if any(found[5]):
            raise SelectionError("an index behind the end of its set")
        if self.sizes is not None and not self.sizes == found[2] == found[3]:
            raise SelectionError(f"{found[2]} to {found[3]} entries where it told of {self.sizes}")
        for count, budget in zip(found[4], view.budgets):
            if limited and count > budget:
                raise SelectionError(f"{count} entries under a budget of {budget}")

    def counted(self) -> list[int]:
        """Return how many entries the budget counts, by batch row: those of the head that has most."""
        return self._counted().tolist()

    def _counted(self) -> Tensor:
        kept = self.indices >= 0
        if self.pools is not None:
            kept &= self.indices < torch.tensor(self.pools, device=self.indices.device)[:, None, None]
        return kept.sum(-1).amax(-1)


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A sparse-attention method. Options common to all:

    `dense_layers`: the first layers, which always attend to the whole prefix. `commit`: whether the forward that
    writes a finished block's K, V attends to the whole prefix (`dense`) or to the method's set (`sparse`).
    """

    uses_budget: ClassVar[bool] = True  # False: the size of the set is the method's own affair
    # True: the sets of all sparse layers are chosen together by `select_layers`, and the budget is their average.
    across_layers: ClassVar[bool] = False
    # True: a set serves all later blocks, so that it is chosen in the forward that plans it, needed at once or not.
    lasting: ClassVar[bool] = False
    # True: from its second call in a block on, `select` asks nothing of the host but lengths and budgets, so that a
    # forward that selects can be captured in a graph that serves as long as these do not change. What the host tells of
    # a set then comes from `metadata_of` and `entries_of`.
    capturable: ClassVar[bool] = False
    dense_layers: int = 0
    commit: Literal["dense", "sparse"] = "dense"

    def __post_init__(self) -> None:
        self.check_at_least(dense_layers=0)
        self.check_choice("commit", ("dense", "sparse"))

    def is_steady(self, lengths: list[int]) -> bool:
        """Whether `select` over prefixes of these lengths asks nothing of the host once it was called in a generation:
        shown a quota it goes by that alone, and its sets are as wide in every block. After an exact attention it reads
        nothing of the view but queries, log-sum-exps, the cache and the quota: a choice is repeated wherever these lie
        at the same addresses (`View.place`). What the host tells of its sets then comes from `metadata_of` and
        `entries_of`. A captured forward that selects, or a captured choice of sets, serves all blocks where this holds
        and operations are `static`."""
        return False

    @property
    def scorers(self) -> Scorers:
        """What a selection at every step multiplies with each vector of its metadata."""
        return "nothing"

    @property
    def one_set_per_kv_head(self) -> bool:
        """Whether all query heads of a KV head share one set, as sparsity must to save memory traffic."""
        return True

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

    def check_prompt(self, prefilled: int, question_start: int, budget: int) -> None:  # noqa: B027 - most take any
        """Raise `UserError` when this method cannot work on a prompt with `prefilled` tokens in its prefix, whose
        question begins at `question_start`, under a budget of `budget` tokens."""

    def for_model(self, num_layers: int, block_size: int) -> Self:
        """Return this method with the options that depend on the model filled in.

        Raises `UserError` for an option that does not fit a model of `num_layers` layers, so that a cell can be refused
        before the model is loaded.
        """
        return self

    def source_layer(self, layer: int) -> int:
        """Return the layer whose set `layer` attends to: itself, or one below that is not one of `dense_layers`.

        A layer with another source never selects. It attends to the source's entries, in its own keys and values,
        from the forward on in which the source's set is chosen; until then exactly.
        """
        return layer

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
        """Choose the prefix entries of one layer, when the plan asks for it and the prefix exceeds the budget.

        `view` shows the forward that planned the selection, with its log-sum-exp when that attended exactly.
        """

    def keep_up(self, state: dict[str, Any], keys: Tensor, lengths: Lengths, operations: Operations) -> None:  # noqa: B027
        """Bring what the method keeps in the `state` of a layer up to date with its cached `keys` `[batch, kv_heads,
        capacity, d]`, as `View.cache` shows them. Called before the first forward over a prefix that selects before it
        attends; never part of a captured forward."""

    def metadata_of(self, lengths: list[int]) -> list[float] | None:
        """Return the `metadata_tokens` of a selection that is repeated over prefixes of these lengths."""
        return None

    def entries_of(self, view: View) -> list[int] | None:
        """Return the `sizes` of the selection that `view` asks for; None where heads may differ."""
        return sizes_of(view.budgets, view.lengths)

    def select_layers(self, views: Sequence[View]) -> list[Selection]:
        """Choose the prefix entries of several layers, in their order: of all sparse ones if `across_layers`."""
        return [self.select(view) for view in views]


def check_sets(method: Method, layers: list[int], views: Sequence[View], selections: Sequence[Selection]) -> None:
    """Raise `SelectionError` unless what `method` selected for `layers` keeps the contract. Waits for the device."""
    where = f"layer {layers[0]}"
    try:
        for layer, view, selection in zip(layers, views, selections, strict=True):
            where = f"layer {layer}"
            selection.check(view, limited=method.uses_budget and not method.across_layers)
        if method.across_layers:
            where = f"layers {layers[0]} to {layers[-1]}"
            check_average(selections, views[0].budgets)
    except SelectionError as error:
        raise SelectionError(f"{type(method).__name__} selected {error} ({where})") from None


def check_average(selections: Sequence[Selection], budgets: list[int]) -> None:
    """Raise `SelectionError` where sets of all sparse layers together exceed `budgets[row]` for each layer."""
    counts = [selection.counted() for selection in selections]
    for row, budget in enumerate(budgets):
        total, allowed = sum(count[row] for count in counts), budget * len(selections)
        if total > allowed:
            raise SelectionError(f"{total} entries over {len(selections)} layers under a budget of {allowed}")
