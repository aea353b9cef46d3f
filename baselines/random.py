"""Random entries: what a budget is worth without any knowledge."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

from mage.method import REUSE, SELECT_BEFORE, Method, Plan, Selection
from mage.selection import sizes_of, top_k
from mage.view import Forward, View


@dataclass(frozen=True, kw_only=True)
class Random(Method):
    """Once per block, k prefix entries drawn uniformly without replacement for each layer and KV head. The draw depends
    on (seed, example, layer, block) alone, so that it is the same in any batch and on any device.
    """

    def plan_step(self, forward: Forward) -> Plan:
        return SELECT_BEFORE if forward.step == 1 and not forward.commit else REUSE

    def select(self, view: View) -> Selection:
        scores = torch.zeros(view.keys.shape[:3])
        for row, (example, length) in enumerate(zip(view.request.example_ids, view.lengths)):
            name = f"{view.request.seed}/{example}/{view.layer}/{view.forward.block}".encode()
            generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(name).digest()[:7], "big"))
            scores[row, :, :length] = torch.rand((view.num_kv_heads, length), generator=generator)
        chosen = top_k(scores.to(view.keys.device), view.budgets, view.lengths)
        return Selection(chosen, sizes=sizes_of(view.budgets, view.lengths))
