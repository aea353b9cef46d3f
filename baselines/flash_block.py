"""FlashBlock: the prefix is attended to once, and what that gave is kept for the later steps of the block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mage.method import KEEP_PREFIX, REUSE_PREFIX, Method, Plan, Selection
from mage.view import Forward, View


@dataclass(frozen=True, kw_only=True)
class FlashBlock(Method):
    """In a block's first step attention is exact, and its part of the prefix is kept: the output, normalised, and the
    log-sum-exp. Later steps read no prefix: what is kept is merged with attention to the block. (arXiv 2602.05305.)

    `refresh_every`: attend exactly and keep anew every that many steps (0: never). The source reuses parts of all
    layers; `dense_layers` leaves out the first ones, as in every method here. It selects nothing and has no budget.
    """

    uses_budget: ClassVar[bool] = False
    refresh_every: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_at_least(refresh_every=0)

    def plan_step(self, forward: Forward) -> Plan:
        since = forward.step - 1
        fresh = since % self.refresh_every == 0 if self.refresh_every else since == 0
        return KEEP_PREFIX if fresh and not forward.commit else REUSE_PREFIX

    def select(self, view: View) -> Selection:
        raise RuntimeError("FlashBlock selects nothing")
