"""What a training run goes through: stages, each with batches of some shapes and its learning rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mage.errors import UserError


@dataclass(frozen=True)
class Shape:
    """A batch: `rows` contexts of `length` tokens with `branches` branches each. `weight`: how often it is drawn."""

    length: int
    rows: int
    branches: int
    weight: float = 1.0


@dataclass(frozen=True)
class Stage:
    """Steps on batches of some shapes.

    steps: at most so many. advance_at: the accuracy at which the next stage starts earlier (None: after all steps);
    floor: what the worst kind of question must have reached then. muon_lr, adam_lr: learning rates for matrices and for
    the rest. warmup: steps of linear rise. decay_share: part of the steps at the end in which both fall to a twentieth.
    max_positions: see the source of the batches. values_only: see AnswerNoise.
    """

    shapes: tuple[Shape, ...]
    steps: int
    advance_at: float | None = None
    floor: float = 0.0
    muon_lr: float = 0.01
    adam_lr: float = 3e-3
    warmup: int = 0
    decay_share: float = 0.0
    max_positions: int = 0
    values_only: float = 0.5

    def __post_init__(self) -> None:
        if not self.shapes or self.steps < 1:
            raise UserError(f"stages: steps={self.steps}, {len(self.shapes)} shapes. Allowed: at least one of each.")

    def shape(self, rng: np.random.Generator) -> Shape:
        """Draw the shape of a batch."""
        weights = np.array([shape.weight for shape in self.shapes])
        return self.shapes[int(rng.choice(len(self.shapes), p=weights / weights.sum()))]

    def rate(self, step: int) -> float:
        """Return the factor on the learning rates at a step of the stage, the first being 0."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        decay = self.steps * self.decay_share
        fall = max(0.05, (self.steps - step) / decay) if step > self.steps - decay else 1.0
        return rise * fall


@dataclass(frozen=True)
class Rise:
    """A learning rate that rises to its peak, stays there, and falls to zero at the end, all linearly.

    steps: of the whole run. peak: the learning rate. warmup: steps of the rise. decay_share: part of the steps, at the
    end, of the fall.
    """

    steps: int
    peak: float
    warmup: int = 20
    decay_share: float = 0.3

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UserError(f"schedule.steps={self.steps} is out of range. Allowed: an integer >= 1.")
        if not 0 <= self.decay_share <= 1:
            raise UserError(f"schedule.decay_share={self.decay_share} is out of range. Allowed: 0 to 1.")

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, the first being 0."""
        fall = self.steps * self.decay_share
        return self.peak * min(1.0, (step + 1) / max(1, self.warmup), (self.steps - step) / max(1.0, fall))


@dataclass(frozen=True)
class Cycles:
    """Learning rates that rise and fall several times, one `Rise` after the other."""

    rises: tuple[Rise, ...]

    def __post_init__(self) -> None:
        if not self.rises:
            raise UserError("schedule.rises: none is there. Allowed: one or more.")

    @property
    def steps(self) -> int:
        """Steps of all."""
        return sum(rise.steps for rise in self.rises)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, the first being 0."""
        for rise in self.rises:
            if step < rise.steps:
                return rise.rate(step)
            step -= rise.steps
        return 0.0
