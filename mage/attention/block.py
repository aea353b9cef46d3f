"""Attention of one block to the prefix and to itself: the only place where sparsity happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from mage.attention.reference import group_rows, merge, partial_attention, ungroup_rows
from mage.method import EXACT, REUSE, Method, Plan, Selection, SelectionError, check_average
from mage.view import Forward, Request, View


class PrefixStore(Protocol):
    """What block attention reads and, on commit, writes: the KV cache."""

    lengths: list[int]

    def view(self, layer: int) -> tuple[Tensor, Tensor]: ...
    def mask(self) -> Tensor | None: ...
    def write(
        self, layer: int, keys: Tensor, values: Tensor, starts: list[int], rows: list[bool] | None = None
    ) -> None: ...


# (view, indices of the attended set, or None when the layer attends to everything), before each denoising attention
Observer = Callable[[View, Tensor | None], None]


@dataclass
class CompactPrefix:
    """The selected keys and values of one layer, gathered once: `[batch, heads, k, d]`, with the visible entries."""

    keys: Tensor
    values: Tensor
    mask: Tensor | None  # [batch, heads, 1, k], None when every entry is valid
    indices: Tensor
    reads: list[float]  # entries read per forward, by batch row, in tokens of one KV head
    fewest: list[int]  # entries of the head that has fewest, by batch row

    @classmethod
    def gather(cls, keys: Tensor, values: Tensor, selection: Selection) -> CompactPrefix:
        """Gather `selection` from the prefix `keys`, `values` `[batch, kv_heads, prefix, d]`."""
        indices = selection.indices
        share = indices.shape[1] // keys.shape[1]  # 1, or the query group when every query head has its own set
        valid = indices >= 0
        rows = indices.clamp(min=0)[..., None].expand(-1, -1, -1, keys.shape[-1])
        if share > 1:
            keys, values = keys.repeat_interleave(share, 1), values.repeat_interleave(share, 1)
        if selection.sizes is not None:
            counts = [[size] * indices.shape[1] for size in selection.sizes]
        else:
            counts = valid.sum(2).tolist()  # the one wait for the device
        reads = [sum(row) * share / len(row) for row in counts]
        fewest = [min(row) for row in counts]
        mask = None if min(fewest) == indices.shape[2] else valid[:, :, None]
        return cls(keys.gather(2, rows), values.gather(2, rows), mask, indices, reads, fewest)


def causal_rows(q: Tensor, num_kv_heads: int) -> Tensor:
    """Return who sees whom in a causal block, bool `[group * rows, rows]`, for `group_rows(q, num_kv_heads)`."""
    rows = q.shape[2]
    return torch.ones(rows, rows, dtype=torch.bool, device=q.device).tril().repeat(q.shape[1] // num_kv_heads, 1)


class BlockAttention:
    """The `attend` function of denoising and commit forwards of one generation.

    Call `begin` before each forward. Afterwards `reads[row]` and `dense_reads[row]` count the prefix entries that the
    forward read and that a dense one would have read, summed over layers, selection included; `sparse_rows[row]` tells
    whether any layer attended to less than the whole prefix. `selection_spans` are the times of choosing and gathering,
    `check_spans` those of checking what was chosen, which is no part of any method.
    """

    def __init__(
        self, method: Method, cache: PrefixStore, request: Request, *, shadow: bool, observer: Observer | None
    ) -> None:
        """With `shadow` the method selects as planned while every layer attends exactly: what a selection would have
        missed on the dense path."""
        self._method = method.for_model(request.num_layers, request.block_size)
        self._cache, self._request = cache, request
        self._shadow, self._observer = shadow, observer
        self._states: list[dict[str, Any]] = [{} for _ in range(request.num_layers)]
        self._pending: dict[int, View] = {}  # what a selection was planned on, by layer, until its set is needed
        self._sets: dict[int, Selection] = {}  # by the layer that selected
        self._compact: dict[int, CompactPrefix] = {}  # by the layer that attends
        self._checked: set[int] = set()  # layers of which a set was checked

    def begin(
        self,
        forward: Forward,
        budgets: list[int],
        prompt_rows: Tensor,
        mark: Callable[[], Any],
        *,
        causal: bool = False,
        rows: list[bool] | None = None,
    ) -> None:
        """Prepare a forward under the resolved `budgets`, one a row. `mark` tells the time (see `Clock`).

        `causal`: a position of the block sees the block only up to itself, as in the commit of a model whose finished
        tokens are causal; otherwise the block is seen whole. `rows`: which rows a commit writes (None: all).
        """
        self._causal, self._rows = causal, rows
        self._forward, self._budgets, self._prompt_rows, self._mark = forward, budgets, prompt_rows, mark
        self._mask = self._cache.mask()
        lengths = self._cache.lengths
        # A row whose budget covers its prefix pays for no selection: alone in a batch it would not select.
        self._limited = [not self._method.uses_budget or budget < n for budget, n in zip(budgets, lengths)]
        self._plan = self._method.plan(forward) if any(self._limited) else EXACT
        if forward.step == 1 and not forward.commit:
            for kept in (self._pending, self._sets, self._compact):
                kept.clear()  # a set is good for one block
        # Whether the commit, or another block, will attend to the sets of before: then every row needs them, however
        # early it is done.
        self._needs_sets = self._method.lasting or self._method.plan(replace(forward, commit=True)) == REUSE
        self.reads = [0.0] * len(lengths)
        self.dense_reads = [0.0] * len(lengths)
        self.sparse_rows = [False] * len(lengths)
        self.selection_spans: list[tuple[Any, Any]] = []
        self.check_spans: list[tuple[Any, Any]] = []

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from the block's `q` `[batch, heads, rows, d]` to the prefix and to its own `k`, `v`."""
        keys, values = self._cache.view(layer)
        block_mask = causal_rows(q, k.shape[1]) if self._causal else None
        plan = self._plan_of(layer)
        view = View(
            request=self._request,
            forward=self._forward,
            layer=layer,
            scale=q.shape[-1] ** -0.5,
            queries=q,
            keys=keys,
            block_keys=k,
            mask=self._mask,
            block_mask=block_mask,
            prompt_rows=self._prompt_rows,
            budgets=self._budgets,
            lengths=self._cache.lengths,
            state=self._states[layer],
        )
        if plan.select == "before":
            self._pending[layer] = view
        compact = None if plan.exact else self._compact_of(layer, keys, values)
        if self._observer is not None and not self._forward.commit:
            self._observer(view, None if compact is None else compact.indices)
        in_block, lse_block = partial_attention(group_rows(q, k.shape[1]), k, v, view.scale, block_mask)
        if compact is None or self._shadow:
            prefix, lse_prefix = partial_attention(group_rows(q, k.shape[1]), keys, values, view.scale, self._mask)
        else:
            heads = compact.keys.shape[1]
            prefix, lse_prefix = partial_attention(
                group_rows(q, heads), compact.keys, compact.values, view.scale, compact.mask
            )
            prefix, lse_prefix = prefix.view(in_block.shape), lse_prefix.view(lse_block.shape)
        if plan.select == "after":
            view.lse_prefix, view.lse_block = lse_prefix, lse_block
            self._pending[layer] = view
        self._count(compact)
        if self._needs_sets and layer == self._request.num_layers - 1:
            self._choose(list(self._pending))
        if self._forward.commit:
            self._cache.write(layer, k, v, self._cache.lengths, self._rows)
        return ungroup_rows(merge(prefix, lse_prefix, in_block, lse_block), q.shape[1]).to(q.dtype)

    def _plan_of(self, layer: int) -> Plan:
        """Return what one layer does: the method's plan, or to follow the layer whose set it shares."""
        if layer < self._method.dense_layers:
            return EXACT
        follows = self._plan.select is not None and self._method.source_layer(layer) != layer
        return REUSE if follows else self._plan

    def _compact_of(self, layer: int, keys: Tensor, values: Tensor) -> CompactPrefix | None:
        """Return the entries that `layer` attends to, chosen and gathered now if they were not before; None when
        nothing was planned yet in this block: a commit right after exact steps attends exactly too."""
        source = self._method.source_layer(layer)
        if source in self._pending:
            self._choose(list(self._pending) if self._method.across_layers else [source])
        if layer not in self._compact and source in self._sets:
            began = self._mark()
            self._compact[layer] = CompactPrefix.gather(keys, values, self._sets[source])
            self.selection_spans.append((began, self._mark()))
        return self._compact.get(layer)

    def _choose(self, layers: list[int]) -> None:
        """Let the method choose the sets of `layers` from what was seen when their selection was planned."""
        method, views = self._method, [self._pending.pop(layer) for layer in layers]
        if not views:
            return
        began = self._mark()
        selections = method.select_layers(views) if method.across_layers else [method.select(view) for view in views]
        self.selection_spans.append((began, self._mark()))
        # A check waits for the device. On a CPU every set is checked, elsewhere the first of each layer.
        if views[0].keys.is_cpu or not self._checked.issuperset(layers):
            self._check(layers, views, selections)
        self._sets.update(zip(layers, selections))
        for layer in [layer for layer in self._compact if method.source_layer(layer) in layers]:
            del self._compact[layer]
        for selection in selections:
            for row, tokens in enumerate(selection.metadata_tokens or []):
                self.reads[row] += tokens * self._limited[row]

    def _check(self, layers: list[int], views: list[View], selections: list[Selection]) -> None:
        """Raise `SelectionError` unless the sets of `layers` keep the contract."""
        method, began, where = self._method, self._mark(), f"layer {layers[0]}"
        try:
            for layer, view, selection in zip(layers, views, selections, strict=True):
                where = f"layer {layer}"
                selection.check(view, limited=method.uses_budget and not method.across_layers)
            if method.across_layers:
                where = f"layers {layers[0]} to {layers[-1]}"
                check_average(selections, self._budgets)
        except SelectionError as error:
            raise SelectionError(f"{type(method).__name__} selected {error} ({where})") from None
        self._checked.update(layers)
        self.check_spans.append((began, self._mark()))

    def _count(self, compact: CompactPrefix | None) -> None:
        for row, length in enumerate(self._cache.lengths):
            self.dense_reads[row] += length
            if compact is None or not self._limited[row]:
                self.reads[row] += length
            else:
                self.reads[row] += compact.reads[row]
                self.sparse_rows[row] |= compact.fewest[row] < length
