"""The choice of all sets that wait, as a piece of work that can be recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mage.attention.forward_pass import Pass, Signature
from mage.attention.sets import Aftermath, Sets


class Choice:
    """Chooses and gathers, before a forward that attends to them, the sets planned in an earlier one.

    It is called for the forward `now`. Where one of the same `signature` is repeated without its code, `replayed`
    stands in for that.
    """

    now: Pass

    def __init__(self, sets: Sets, layers: Sequence[int]) -> None:
        """`layers`: those that attend to sets."""
        self._sets, self._layers = sets, layers
        self._chosen: list[int] = []  # by the last call

    def __call__(self) -> None:
        self._chosen = self._sets.choose(self.now)
        for layer in self._layers:
            self._sets.needed_by(layer, self.now)

    @property
    def signature(self) -> Signature | None:
        """What it works on; None where the host takes part in it, and where it gathers sets that a forward chose for
        layers that follow: those are few, and they come to lie elsewhere when that forward is recorded."""
        quota, waiting = self.now.quota, self._sets.waiting
        if quota is None or not waiting or self._sets.chosen_before(self._layers):
            return None
        # Where a block's later steps plan too, what they see lies elsewhere than what a fused first step sees.
        kind = ("choice", self._sets.ahead)
        return Signature(kind, (waiting, self._sets.places(attended=False), quota.full))

    @property
    def aftermath(self) -> Aftermath:
        """What its code left on the host."""
        return self._sets.left_by(self._chosen)

    def replayed(self, aftermath: Aftermath) -> None:
        """Take it as done."""
        self._sets.chosen(aftermath, self.now)

    def silence(self) -> None:
        """Take no times in it."""
        self._sets.silence()

    def bookmark(self) -> Callable[[], None]:
        """Return what takes the host back to where it stands now."""
        return self._sets.bookmark()
