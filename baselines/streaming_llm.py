"""StreamingLLM: attention sinks and a recent window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from mage.method import REUSE, SELECT_BEFORE, Method, Plan, Selection
from mage.row_values import row_values
from mage.selection import sizes_of
from mage.view import Forward, View


@dataclass(frozen=True, kw_only=True)
class StreamingLLM(Method):
    """Keep the first `sinks` entries and the most recent ones, k in all; committed blocks count as recent.
    (arXiv 2309.17453.)

    Deviation: keys keep their absolute positions, where the paper re-numbers positions inside its cache. The commit
    forward is sparse by default: what was evicted cannot be read. Budgets of `sinks` or less keep one recent entry.
    """

    commit: Literal["dense", "sparse"] = "sparse"
    sinks: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_at_least(sinks=0)

    def plan_step(self, forward: Forward) -> Plan:
        return SELECT_BEFORE if forward.step == 1 and not forward.commit else REUSE

    def is_steady(self, lengths: list[int]) -> bool:
        return True

    def select(self, view: View) -> Selection:
        sizes, quota = sizes_of(view.budgets, view.lengths), view.quota
        if quota is None:
            width, lengths = max(sizes), row_values(view.lengths, view.keys.device)
            picks = row_values(sizes, view.keys.device)
        else:
            width, lengths = quota.room, quota.lengths
            picks = torch.full_like(lengths, width) if quota.picks is None else quota.picks
        place = torch.arange(width, device=view.keys.device)
        sinks = (picks - 1).clamp(0, self.sinks)
        indices = torch.where(place < sinks[:, None], place, place + (lengths - picks)[:, None])
        indices = indices.masked_fill(place >= picks[:, None], -1)
        counts = None if quota is None or quota.full else picks
        return Selection(indices[:, None].repeat(1, view.num_kv_heads, 1), sizes=sizes, counts=counts)
