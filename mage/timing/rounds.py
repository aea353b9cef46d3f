"""What a contest leaves behind: its rounds, their bounds, and what they share. Needs no torch: readers of records use
it."""

from __future__ import annotations

from dataclasses import dataclass, field

from mage.timing.bound import Bound
from mage.timing.roofs import Roofs
from mage.timing.side import Side


@dataclass(frozen=True)
class Round:
    """Dense and the method, timed one after the other. `empty_step`: seconds of a dense step on next to no prefix, see
    `Conditions.empty_entries`; None where each dense step was fused with a commit."""

    dense: Side
    method: Side
    empty_step: float | None

    @property
    def speedup(self) -> float:
        """Seconds of a block, dense over the method, everything counted."""
        return self.dense.elapsed / self.method.elapsed

    @property
    def dense_step(self) -> float | None:
        """Seconds of a dense step that is nothing else; None where each was fused with a commit."""
        return self.dense.step("exact")


@dataclass(frozen=True)
class Conditions:
    """What all rounds of a contest share.

    `attention`: the implementation that the engines ran. `captured`, `dense_captured`: whether the steps of the method,
    and of dense, were replayed as graphs, to the last round.
    `dense_attention`: seconds of one dense step's attention by implementation, `dense_absent`: why others have none,
    see `mage.timing.dense`. `prefill_flops`: operations of the prefill that took `prefill_seconds`, of `prefill_rows`
    rows: where these are fewer than the batch, the others are copies. `selects_each_step`: see `Reading`.
    `prefill_peak_bytes`: memory, None where another contest made the prefix. `warm_blocks`: blocks of each generation
    that go before those that count, one more with fused commits. `empty_entries`: prefix entries of the step on next to
    none, which all of those make.
    """

    context: int
    batch: int
    block_size: int
    roofs: Roofs
    attention: str
    captured: bool
    dense_captured: bool
    dense_attention: dict[str, float]
    prefill_seconds: float
    prefill_flops: float
    prefill_peak_bytes: float | None
    selects_each_step: bool
    prefill_rows: int
    warm_blocks: int
    empty_entries: int
    dense_absent: dict[str, str] = field(default_factory=dict)

    @property
    def dense_reference(self) -> str | None:
        """The fastest implementation of dense attention; None where none was timed."""
        return min(self.dense_attention, key=lambda name: self.dense_attention[name], default=None)

    @property
    def lost_per_forward(self) -> float | None:
        """Seconds by which the best dense attention of a step is faster than the engine's own; None where that one was
        not timed."""
        own = self.dense_attention.get(self.attention)
        return None if own is None else own - min(self.dense_attention.values())


@dataclass(frozen=True)
class Timed:
    """A round with the bounds of its two sides."""

    round: Round
    dense: Bound
    method: Bound
