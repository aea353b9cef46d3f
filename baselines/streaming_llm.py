"""StreamingLLM: attention sinks and a recent window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from mage.method import REUSE, SELECT_BEFORE, Method, Plan, Selection
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

    def select(self, view: View) -> Selection:
        picks = sizes_of(view.budgets, view.lengths)
        indices = torch.full((len(picks), max(picks)), -1)
        for row, (pick, length) in enumerate(zip(picks, view.lengths)):
            sinks = max(0, min(self.sinks, pick - 1))
            indices[row, :pick] = torch.cat((torch.arange(sinks), torch.arange(length - pick + sinks, length)))
        return Selection(indices.to(view.keys.device)[:, None].expand(-1, view.num_kv_heads, -1), sizes=picks)
