"""Attention of one block to the prefix and to itself: the only place where sparsity happens."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

from torch import Tensor

from mage.attention.beside import Beside
from mage.attention.choice import Choice
from mage.attention.compact import CompactPrefix
from mage.attention.forward_pass import PrefixStore, Signature
from mage.attention.kept import KeptPart, KeptParts
from mage.attention.operations import Lengths, Operations
from mage.attention.planning import Planner
from mage.attention.reads import reads_of
from mage.attention.reference import causal_rows, group_rows, last_rows, ungroup_rows
from mage.attention.sets import Aftermath, Sets
from mage.attention.torch_operations import TorchOperations
from mage.method import REUSE, Method
from mage.view import Forward, Request, View

# (view, indices of the attended set, or None when the layer attends to everything), before each denoising attention
Observer = Callable[[View, Tensor | None], None]


class BlockAttention:
    """The `attend` function of denoising and commit forwards of one generation.

    Call `begin` before each forward, `join` as its last act and `end` after it. Then `reads[row]` and
    `dense_reads[row]` count the prefix entries that the forward read and that a dense one would have read, summed over
    layers, selection included; `sparse_rows[row]` tells whether any layer attended to less than the whole prefix.
    `selection_spans` are the times of choosing and gathering, `check_spans` those of checking what was chosen, which is
    no part of any method. What is done in a captured forward, or beside one, has no time of its own.
    """

    def __init__(
        self,
        method: Method,
        cache: PrefixStore,
        request: Request,
        *,
        shadow: bool,
        observer: Observer | None,
        operations: Operations | None = None,
        overlap: bool = False,
        room: int | None = None,
    ) -> None:
        """With `shadow` the method selects as planned while every layer attends exactly: what a selection would have
        missed on the dense path. `operations`: what computes (None: plain torch). `overlap`: where a method `is_steady`
        and a set serves its own layer and block alone, it is chosen in the forward that plans it, beside the rest of
        the layer; a block that is done by then has paid for it. `room`: the most entries that a row may pick in this
        generation (None: nobody knows, and what is captured of selections serves one block).
        """
        self._method = method.for_model(request.num_layers, request.block_size)
        self._cache, self._request = cache, request
        self._shadow, self._observer = shadow, observer
        self._operations = operations or TorchOperations()
        self._states: list[dict[str, Any]] = [{} for _ in range(request.num_layers)]
        sparse = range(self._method.dense_layers, request.num_layers)
        self._kept = KeptParts(self._operations)
        room = room if self._operations.static else None
        self._planner = Planner(self._method, self._kept, sparse, overlap=overlap, room=room)
        beside = Beside(request.windows.device) if self._planner.overlaps else None
        self._sets = Sets(self._method, cache, self._operations, beside)
        self._choice = Choice(self._sets, sparse)
        self._kept_up: Lengths | None = None  # what the method's state is up to date with

    def begin(
        self,
        forward: Forward,
        budgets: list[int],
        prompt_rows: Tensor,
        mark: Callable[[], Any],
        *,
        causal: bool = False,
        rows: list[bool] | None = None,
        repeat: Callable[[Choice], None] | None = None,
        ahead: int = 0,
    ) -> None:
        """Prepare a forward under the resolved `budgets`, one a row. `mark` tells the time (see `Clock`).

        `causal`: a position of the block sees the block only up to itself, as in the commit of a model whose finished
        tokens are causal; otherwise the block is seen whole. `rows`: which rows a commit writes (None: all). `repeat`:
        carries out, or repeats, the choice of the sets that the forward needs (None: it is carried out). `ahead`: so
        many positions before the block are in the forward too, the last entries of the prefix: the caller writes their
        K, V of a layer before attention is called, and the method never sees them. Needs a forward that `can_fuse`;
        raises ValueError with `causal`.
        """
        if causal and ahead:
            raise ValueError("a causal forward has nothing ahead of it")
        valid = self._cache.valid
        self.now = self._planner.plan(forward, budgets, valid, prompt_rows, causal=causal, rows=rows, ahead=ahead)
        self._sets.begin(self.now, mark)
        if self.now.plan.select == "before" and valid is not self._kept_up:
            self._keep_up(valid)
        if self.now.plan == REUSE:
            self._choose(mark, repeat)
        # What was read before the layers run is no part of what they leave behind.
        self._before, self._sets.reads = self._sets.reads, [0.0] * len(budgets)

    def can_fuse(self, forward: Forward, budgets: list[int], lengths: list[int]) -> bool:
        """Whether `forward`, over `lengths` entries, may be part of one that commits a block and opens the next: all
        layers attend to the whole prefix. Out is also what selects in a commit, as the method would see the wrong
        block, and what selects for layers that follow, which attend to the set at once."""
        return self._planner.can_fuse(forward, budgets, lengths)

    def _choose(self, mark: Callable[[], Any], repeat: Callable[[Choice], None] | None) -> None:
        """Choose and gather what the forward needs."""
        choice, waits, began = self._choice, bool(self._sets.waiting), mark()
        choice.now = self.now
        if repeat is None:
            choice()
        else:
            repeat(choice)
        if waits and not self.selection_spans:  # repeated: it took time all the same
            self.selection_spans.append((began, mark()))

    def _keep_up(self, valid: Lengths) -> None:
        """Let the method see what the prefix has grown by."""
        with self._sets.timed(self.selection_spans):
            for layer in range(self._method.dense_layers, self._request.num_layers):
                if self._method.source_layer(layer) == layer:
                    keys, _ = self._cache.entries(layer)
                    self._method.keep_up(self._states[layer], keys, valid, self._operations)
        self._kept_up = valid

    def end(self) -> None:
        """Count what the forward read, and choose the sets that are needed whether or not a step attends to them."""
        self._sets.end(self.now)
        attended = [self._attended(layer) for layer in range(self._request.num_layers)]
        # Whether the commit, or another block, will attend to the sets of before: then every row needs them, however
        # early it is done.
        if self._method.lasting or self._method.plan(replace(self.now.forward, commit=True)) == REUSE:
            self._sets.choose(self.now)
        chosen = [before + within for before, within in zip(self._before, self._sets.reads)]
        self.reads, self.dense_reads, self.sparse_rows = reads_of(self.now, chosen, attended)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from the block's `q` `[batch, heads, rows, d]`, positions ahead of it first, to the prefix and to its
        own `k`, `v`."""
        now, plan, scale = self.now, self._planner.of_layer(self.now.plan, layer), q.shape[-1] ** -0.5
        ahead, group = now.ahead, q.shape[1] // k.shape[1]
        keys, values = self._cache.entries(layer)
        k, v = k[:, :, ahead:], v[:, :, ahead:]
        view = self._view(layer, q[:, :, ahead:], k) if plan.select or self._observer else None
        if plan.select == "before" and view is not None:
            self._sets.plan(layer, view, now)
        compact = None if plan.exact else self._sets.needed_by(layer, now)
        if self._observer is not None and view is not None and not now.forward.commit:
            self._observer(view, None if compact is None else compact.indices)
        rows = group_rows(q, k.shape[1])
        if plan.prefix and not self._shadow:
            out = self._kept.attend(layer, plan, rows, (keys, values, now.valid), (k, v), scale, now.causal, ahead)
        elif compact is None or self._shadow:
            attended = self._operations.exact(rows, keys, values, now.valid, k, v, scale, now.causal, ahead)
            out = attended.out
            if plan.select == "after" and view is not None:
                view.lse_prefix = last_rows(attended.lse_prefix, group, ahead)
                view.lse_block = last_rows(attended.lse_block, group, ahead)
                self._sets.plan(layer, view, now)
        else:
            out = self._operations.sparse(rows, compact.keys, compact.values, compact.counts, k, v, scale, now.causal)
        if now.forward.commit:
            self._cache.append(layer, k, v, now.rows)
        return ungroup_rows(out, q.shape[1])

    def join(self) -> None:
        """Wait, on the device, for what was chosen beside the forward."""
        if self.now.at_once:
            self._sets.join()

    @property
    def selection_spans(self) -> list[tuple[Any, Any]]:
        """See the class."""
        return self._sets.selection_spans

    @property
    def check_spans(self) -> list[tuple[Any, Any]]:
        """See the class."""
        return self._sets.check_spans

    @property
    def signature(self) -> Signature | None:
        """What the forward that was begun shares with those that do the same; None where the host takes part in it."""
        now, plan = self.now, self.now.plan
        whole_batch = now.rows is None or all(now.rows)
        if self._shadow or self._observer is not None or not whole_batch:
            return None
        selects = plan.select == "before" or (plan.select == "after" and self._planner.follows)
        if selects and now.quota is None and (self._sets.waits or not self._method.capturable):
            return None
        writes = selects or now.at_once
        places = () if plan.exact and not writes else self._sets.places(attended=not writes)
        reads_device = now.quota is not None if selects else self._operations.static
        lengths = () if reads_device else tuple(now.valid.host)
        picks: Hashable = tuple(now.budgets) if now.quota is None else now.quota.full
        kind = now.forward.commit, now.causal, plan, now.at_once, now.ahead
        return Signature(kind, (places, lengths, picks if writes else ()))

    @property
    def aftermath(self) -> Aftermath:
        """What the code of the layers left behind, asked for before `end`."""
        return self._sets.aftermath

    def replayed(self, aftermath: Aftermath) -> None:
        """Take the forward that was begun as run without that code: an earlier one of its signature is repeated."""
        self._sets.replayed(aftermath, self.now)

    def silence(self) -> None:
        """Take no times in the forward that was begun: it is being captured."""
        self._sets.silence()

    def bookmark(self) -> Callable[[], None]:
        """Return what takes the host back to where it stands now."""
        return self._sets.bookmark()

    def _view(self, layer: int, q: Tensor, k: Tensor) -> View:
        """Return what the method may see of a layer in this forward."""
        now, (keys, _) = self.now, self._cache.entries(layer)
        view = View(
            request=self._request,
            forward=now.forward,
            layer=layer,
            scale=q.shape[-1] ** -0.5,
            queries=q,
            keys=keys,
            block_keys=k,
            mask=None,
            block_mask=causal_rows(k.shape[2], q.shape[1] // k.shape[1], q.device) if now.causal else None,
            prompt_rows=now.prompt_rows,
            budgets=now.budgets,
            lengths=now.valid.host,
            state=self._states[layer],
            operations=self._operations,
            cached_keys=keys,
        )
        return now.shown(view)

    def _attended(self, layer: int) -> CompactPrefix | KeptPart | None:
        """Return what one layer attends to in place of the prefix, if anything."""
        plan = self._planner.of_layer(self.now.plan, layer)
        if plan.exact:
            return None
        return self._kept.of(layer) if plan.prefix else self._sets.of(layer)
