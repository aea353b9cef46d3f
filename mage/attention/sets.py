"""The sets that the layers of one generation attend to: planned on, chosen, checked, gathered."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

from torch import is_grad_enabled

from mage.attention.beside import Beside
from mage.attention.compact import CompactPrefix
from mage.attention.forward_pass import Pass, PrefixStore
from mage.attention.operations import Lengths, Operations
from mage.method import Method, Selection, check_sets
from mage.view import View


@dataclass(frozen=True)
class Aftermath:
    """What the code of the layers leaves on the host, by layer: views on which a selection was `planned` and those that
    it is still to be made on, sets and their buffers."""

    planned: dict[int, View]
    pending: dict[int, View]
    sets: dict[int, Selection]
    compact: dict[int, CompactPrefix]

    def resized(self, sizes: dict[int, list[int] | None], source_layer: Callable[[int], int]) -> Aftermath:
        """Return the same with sets of other `sizes`, by the layer that selected and by batch row."""
        sets = {layer: replace(chosen, sizes=sizes[layer]) for layer, chosen in self.sets.items() if layer in sizes}
        compact = {layer: held.holding(sizes.get(source_layer(layer))) for layer, held in self.compact.items()}
        return replace(self, sets=sets, compact=compact)


class Sets:
    """The sets of one generation, by layer. Call `begin` before each forward.

    `reads[row]`: entries that choosing has read in this forward. `selection_spans`, `check_spans`: see
    `BlockAttention`. `waits`: whether gathering a set ever had to wait for its size. `ahead`: positions that were ahead
    of the block where a selection was planned last.
    """

    def __init__(self, method: Method, cache: PrefixStore, operations: Operations, beside: Beside | None) -> None:
        """`beside`: where the sets of a forward `at_once` are chosen."""
        self._method, self._cache, self._operations, self._beside = method, cache, operations, beside
        self._pending: dict[int, View] = {}  # what a selection was planned on, until its set is needed
        self._planned: dict[int, View] = {}  # in this forward
        self._sets: dict[int, Selection] = {}  # by the layer that selected
        self._compact: dict[int, CompactPrefix] = {}  # by the layer that attends
        self._buffers: dict[int, CompactPrefix] = {}  # the last of each layer, to be written over
        self._checked: set[int] = set()  # layers of which a set was checked
        self._places: dict[bool, tuple[object, ...]] = {}  # told before, until something moves
        self._taken: tuple[Aftermath, Lengths, Aftermath] | None = None  # the last of an earlier forward, as it is now
        self.waits = False
        self.ahead = 0

    def begin(self, now: Pass, mark: Callable[[], Any] | None) -> None:
        """Prepare a forward. `mark`: tells the time (None: no times are taken)."""
        self._mark = mark
        self._planned = {}
        if now.plan.select is not None:
            self.ahead = now.ahead
        if now.forward.step == 1 and not now.forward.commit:
            for kept in (self._pending, self._sets, self._compact):
                kept.clear()  # a set is good for one block
            self._places = {}
        self.reads = [0.0] * len(now.budgets)
        self.selection_spans: list[tuple[Any, Any]] = []
        self.check_spans: list[tuple[Any, Any]] = []

    def of(self, layer: int) -> CompactPrefix | None:
        """Return what `layer` attends to, as it is."""
        return self._compact.get(layer)

    def plan(self, layer: int, view: View, now: Pass) -> None:
        """Keep what a selection is to be made on; choose and gather at once where the forward does so."""
        self._planned[layer] = view
        if not now.at_once or self._beside is None:
            self._pending[layer] = view
            return
        with self._beside.run():
            (self._sets[layer],) = self._method.select_layers([view])
            self._gather(layer, self._sets[layer])
        self._count(self._sets[layer].metadata_tokens, now)

    def join(self) -> None:
        """Wait, on the device, for the sets that were chosen beside the forward."""
        if self._beside is not None:
            self._beside.join()

    def needed_by(self, layer: int, now: Pass) -> CompactPrefix | None:
        """Return the entries that `layer` attends to, chosen and gathered now if they were not before; None when
        nothing was planned yet in this block: a commit right after exact steps attends exactly too."""
        source = self._method.source_layer(layer)
        if source in self._pending:
            self.choose(now, None if self._method.across_layers else [source])
        if layer not in self._compact and source in self._sets:
            with self.timed(self.selection_spans):
                self._gather(layer, self._sets[source])
        return self._compact.get(layer)

    def choose(self, now: Pass, layers: list[int] | None = None) -> list[int]:
        """Let the method choose the sets of `layers` (None: all that wait) from what was seen when they were planned.
        Return these layers."""
        layers = list(self._pending) if layers is None else layers
        views = [self._pending.pop(layer) for layer in layers]
        if not views:
            return []
        with self.timed(self.selection_spans):
            selections = self._method.select_layers(views)
        self._check(layers, views, selections)
        self._sets.update(zip(layers, selections))
        for layer in [layer for layer in self._compact if self._method.source_layer(layer) in layers]:
            del self._compact[layer]
        self._places = {}
        for selection in selections:
            self._count(selection.metadata_tokens, now)
        return layers

    @property
    def waiting(self) -> tuple[object, ...]:
        """Where the tensors lie that the sets still to be chosen are chosen by; empty where none is."""
        return tuple((layer, self._pending[layer].place) for layer in sorted(self._pending))

    def chosen_before(self, layers: Sequence[int]) -> bool:
        """Whether one of `layers` has yet to gather a set that is no longer to be chosen."""
        chosen = self._sets.keys() - self._pending.keys()
        return any(layer not in self._compact and self._method.source_layer(layer) in chosen for layer in layers)

    def end(self, now: Pass) -> None:
        """Bring what was planned up to date: a repeated forward shows what it was recorded with. Check what was chosen
        at once."""
        for layer in self._planned.keys() & self._pending.keys():
            self._pending[layer] = now.shown(self._pending[layer])
        if now.at_once:
            layers = sorted(self._planned)
            views = [now.shown(self._planned[layer]) for layer in layers]
            self._check(layers, views, [self._sets[layer] for layer in layers])

    def places(self, *, attended: bool) -> tuple[object, ...]:
        """Return where the buffers lie: those that layers attend to now, or all that may be written over."""
        if attended not in self._places:
            buffers = self._compact if attended else self._buffers
            self._places[attended] = tuple((layer, buffers[layer].place) for layer in sorted(buffers))
        return self._places[attended]

    def left_by(self, chosen: Collection[int]) -> Aftermath:
        """Return what a choice of the sets of the layers `chosen` has left."""
        compact = {layer: held for layer, held in self._compact.items() if self._method.source_layer(layer) in chosen}
        return Aftermath({}, {}, {layer: self._sets[layer] for layer in chosen}, compact)

    def chosen(self, aftermath: Aftermath, now: Pass) -> None:
        """Take all sets that wait as chosen: an earlier choice of them is repeated."""
        self._take(aftermath, dict(self._pending), now)
        self._pending.clear()

    @property
    def aftermath(self) -> Aftermath:
        """What the layers of the forward left behind, asked for before `end`."""
        pending = {layer: view for layer, view in self._pending.items() if self._planned.get(layer) is view}
        chosen = self._planned.keys() - pending.keys()  # within the forward
        return replace(self.left_by(chosen), planned=self._planned, pending=pending)

    def replayed(self, aftermath: Aftermath, now: Pass) -> None:
        """Take the forward `now` as run: it left what an earlier one of its signature left."""
        self._planned = dict(aftermath.planned)
        self._pending.update(aftermath.pending)
        self._take(aftermath, {layer: self._planned[layer] for layer in aftermath.sets}, now)

    def silence(self) -> None:
        """Take no times in this forward."""
        self._mark = None

    def bookmark(self) -> Callable[[], None]:
        """Return what takes all that is kept here back to how it is now."""
        kept = {
            name: copy(value) if isinstance(value, (dict, list, set)) else value for name, value in vars(self).items()
        }
        return lambda: vars(self).update(kept)

    def _gather(self, layer: int, chosen: Selection) -> None:
        self.waits |= chosen.sizes is None
        earlier = None if is_grad_enabled() else self._buffers.get(layer)
        gathered = CompactPrefix.gather(self._operations, *self._cache.entries(layer), chosen, earlier)
        self._compact[layer] = self._buffers[layer] = gathered
        self._places = {}

    def _take(self, aftermath: Aftermath, views: dict[int, View], now: Pass) -> None:
        """Take sets as chosen for `views`, and buffers as written, in `now`: in the forward that left them lengths may
        have been others."""
        metadata = self._method.metadata_of(now.valid.host)
        for _ in views:
            self._count(metadata, now)
        if self._taken is None or self._taken[0] is not aftermath or self._taken[1] is not now.valid:
            sizes = {layer: self._method.entries_of(now.shown(view)) for layer, view in views.items()}
            self._taken = aftermath, now.valid, aftermath.resized(sizes, self._method.source_layer)
        self._sets.update(self._taken[2].sets)
        self._compact.update(self._taken[2].compact)
        self._places = {}

    def _count(self, metadata_tokens: list[float] | None, now: Pass) -> None:
        for row, tokens in enumerate(metadata_tokens or []):
            self.reads[row] += tokens * now.limited[row]

    def _check(self, layers: list[int], views: list[View], selections: list[Selection]) -> None:
        """A check waits for the device. On a CPU every set is checked, elsewhere the first of each layer."""
        if layers and (views[0].keys.is_cpu or not self._checked.issuperset(layers)):
            with self.timed(self.check_spans):
                check_sets(self._method, layers, views, selections)
            self._checked.update(layers)

    @contextmanager
    def timed(self, spans: list[tuple[Any, Any]]) -> Iterator[None]:
        """Add the time of what is done within to `spans`."""
        if self._mark is None:
            yield
            return
        began = self._mark()
        yield
        spans.append((began, self._mark()))
