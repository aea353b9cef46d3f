"""What a contest leaves behind: its rounds, their bounds, and what they share. Needs no torch: readers of records use
it."""

from __future__ import annotations

from dataclasses import dataclass

from mage.timing.bound import Bound
from mage.timing.roofs import Roofs
from mage.timing.side import Side


@dataclass(frozen=True)
class Round:
    """Dense and the method, timed one after the other. `empty_step`: seconds of a dense step without a prefix."""

    dense: Side
    method: Side
    empty_step: float

    @property
    def speedup(self) -> float:
        """Seconds of a block, dense over the method, everything counted."""
        return self.dense.elapsed / self.method.elapsed

    @property
    def dense_step(self) -> float:
        """Seconds of a dense step."""
        found = self.dense.step("exact")
        assert found is not None  # dense does nothing else
        return found


@dataclass(frozen=True)
class Conditions:
    """What all rounds of a contest share.

    `attention`: the implementation that the engine ran, `captured`: whether its steps were replayed as graphs.
    `dense_attention`: seconds of one dense step's attention by implementation, see `mage.timing.dense`.
    `prefill_flops`: operations of the prefill that took `prefill_seconds`. `selects_each_step`: see `Reading`.
    `prefill_peak_bytes`: memory, None where another contest made the prefix.
    """

    context: int
    batch: int
    block_size: int
    roofs: Roofs
    attention: str
    captured: bool
    dense_attention: dict[str, float]
    prefill_seconds: float
    prefill_flops: float
    prefill_peak_bytes: float | None
    selects_each_step: bool

    @property
    def dense_reference(self) -> str:
        """The fastest implementation of dense attention."""
        return min(self.dense_attention, key=lambda name: self.dense_attention[name], default=self.attention)

    @property
    def lost_per_forward(self) -> float:
        """Seconds by which the best dense attention of a step is faster than the engine's own."""
        own = self.dense_attention.get(self.attention)
        return 0.0 if own is None else own - self.dense_attention[self.dense_reference]


@dataclass(frozen=True)
class Timed:
    """A round with the bounds of its two sides."""

    round: Round
    dense: Bound
    method: Bound
