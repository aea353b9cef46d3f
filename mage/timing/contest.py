"""Dense and a method side by side: ABAB on one prefix, in one process, with the engine that also scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mage.budget import Budget
from mage.generation.engine import Engine
from mage.generation.prefill import Prefix
from mage.timing.memory import PeakMemory
from mage.timing.rounds import Round
from mage.timing.side import Side


@dataclass(frozen=True)
class Contest:
    """Two engines of the same model and decoding, their stop tokens switched off (see `without_stops`), and what they
    work on: `prefix`, and `nothing` of `mage.timing.workload.empty`. The first `skipped` blocks of both do not
    count. `warm_up`: a round before those that count; not where enough of the skipped blocks warm up each
    generation."""

    dense: Engine
    method: Engine
    budget: Budget | None
    prefix: Prefix
    nothing: Prefix
    skipped: int = 0
    seed: int = 0
    warm_up: bool = True

    def rounds(self, count: int) -> Iterator[Round]:
        """Warm up both sides, then yield `count` rounds, each timed when it is asked for."""
        if self.warm_up:
            self._round()
        for _ in range(count):
            yield self._round()

    def _round(self) -> Round:
        dense, method = self._run(self.dense, self.prefix), self._run(self.method, self.prefix)
        return Round(dense, method, self._run(self.dense, self.nothing).step("exact"))

    def _run(self, engine: Engine, prefix: Prefix) -> Side:
        memory = PeakMemory(engine.model.device)
        generations = engine.generate(prefix, self.budget if engine.method.uses_budget else None, seed=self.seed)
        return Side.of(generations, memory.read(), self.skipped)
