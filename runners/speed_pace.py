"""How long a point of the speed matrix will take, so that none is begun that cannot end in time."""

from __future__ import annotations

from mage.models.config import BodyConfig
from mage.timing.counts import Shape, forward_parts, least_seconds, prefill_parts
from mage.timing.roofs import Roofs
from mage.timing.workload import Workload

FIRST = 2.5  # times the least that work takes, before any was seen


class Pace:
    """What work takes over the least that bytes and operations allow: each kind of work as it did the last time."""

    def __init__(self, body: BodyConfig, itemsize: int, block_size: int, roofs: Roofs) -> None:
        """The shape of the model that works: `itemsize` bytes a weight and KV element, blocks of `block_size`."""
        self._body, self._itemsize, self._size, self._roofs = body, itemsize, block_size, roofs
        self._over: dict[str, float] = {}

    def expected(self, kind: str, least: float) -> float:
        """Return the seconds that work of a kind will take, of its least ones."""
        return least * self._over.get(kind, FIRST)

    def learn(self, kind: str, least: float, seconds: float) -> None:
        """Take note of what work of a kind took."""
        self._over[kind] = seconds / least

    def prefill(self, context: int, chunk: int | None) -> float:
        """Return the least seconds of the prefill of a row."""
        return least_seconds(prefill_parts(self._shape(1), context, unit=self._size, chunk=chunk), self._roofs)

    def contest(self, work: Workload, budget: int, rounds: int) -> float:
        """Return the least seconds of a contest: in each round the blocks of dense, of a method that reads `budget`
        entries, and of dense on next to nothing, those that do not count included."""
        shape, layers = self._shape(work.batch), self._body.num_layers
        dense, sparse = (
            least_seconds(forward_parts(shape, layers * entries), self._roofs)
            for entries in (work.context, min(budget, work.context))
        )
        blocks = (work.skipped + work.blocks) * (rounds + (not work.warm_blocks))
        return blocks * (self._size + 1) * (dense + 2 * sparse)

    def _shape(self, batch: int) -> Shape:
        return Shape(self._body, self._itemsize, batch, self._size)
