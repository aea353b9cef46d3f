"""MAGE as first published: layers share one budget by what their heads need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mage.errors import UserError
from mage.method import REUSE, SELECT_AFTER, Method, Plan, Selection
from mage.selection import first_of, keys_read, ranking, sizes_of, top_k_mask
from mage.view import Denominator, Forward, View


@dataclass(frozen=True, kw_only=True)
class MageV1(Method):
    """At a block's exact first step every query row takes its own top-K; U is the union over the rows that share a KV
    head. A layer whose union is large and covers little mass gets more of the budget that the layers share. The rest of
    the block attends to the entries of U with most votes, filled with the most recent ones where U is too small.
    (arXiv 2602.14209 v1.)

    With K the budget and L the number of sparse layers: p = mean over rows of the mass on U; layer score s = max over
    KV heads of |U| (1 - log p); layer budget max(K_min, floor(s / sum(s) K L)). The paper leaves open, and here holds:
    a row's local top-K takes the average budget K; votes are the row-averaged probability; `denominator` of mass and
    votes; K_min is `min_share` of K, at least one entry.

    Deviations: where K_min lifts a layer, the others share what is left in proportion to s, so that layers never exceed
    K on average; a layer that gets more than its prefix holds leaves the surplus unused. The statistics are counted as
    one more pass over the keys, as the selection of v2; unfused they cost more time (46 to 63 % of step 1).
    """

    across_layers: ClassVar[bool] = True
    dense_layers: int = 2
    min_share: float = 0.25
    denominator: Denominator = "prefix+block"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("denominator", ("prefix+block", "prefix"))
        if not 0.0 <= self.min_share <= 1.0:
            raise UserError(f"method.min_share={self.min_share} is out of range. Allowed: 0 to 1.")

    def plan_step(self, forward: Forward) -> Plan:
        return SELECT_AFTER if forward.step == 1 and not forward.commit else REUSE

    def select(self, view: View) -> Selection:
        return self.select_layers([view])[0]

    def select_layers(self, views: Sequence[View]) -> list[Selection]:
        budgets, lengths = views[0].budgets, views[0].lengths
        lowest = [max(1, int(self.min_share * budget)) for budget in budgets]
        # No layer can get more than all that the others may leave it: a ranking of that length holds its set.
        highest = [budget + (budget - low) * (len(views) - 1) for budget, low in zip(budgets, lowest)]
        found = [self._rank(view, max(highest)) for view in views]
        scores = torch.stack([score for _, score in found], 1).tolist()  # [batch, layers]
        # [batch][layer]; a row whose budget covers its prefix attends to all of it in every layer.
        shared = [
            [length] * len(views) if budget >= length else layer_budgets(row, budget, low)
            for row, budget, low, length in zip(scores, budgets, lowest, lengths)
        ]
        read = keys_read(lengths)
        sizes = [sizes_of([row[layer] for row in shared], lengths) for layer in range(len(views))]
        return [Selection(first_of(ranked, picks), read, sizes=picks) for (ranked, _), picks in zip(found, sizes)]

    def _rank(self, view: View, count: int) -> tuple[Tensor, Tensor]:
        """Return the best `count` entries of a layer, best first `[batch, kv_heads, count]`, and its score `[batch]`.

        Entries of the union come by their votes, all others behind them by their recency.
        """
        probabilities = view.probabilities(self.denominator)  # [batch, kv_heads, group * block, prefix]
        union = top_k_mask(probabilities, view.budgets, view.lengths).any(2)
        votes = probabilities.mean(2)
        covered = (votes * union).sum(-1).clamp(min=torch.finfo(votes.dtype).tiny)
        score = (union.sum(-1) * (1.0 - covered.log())).amax(-1)
        width = votes.shape[-1]
        recency = torch.arange(-width, 0, device=votes.device, dtype=votes.dtype)  # below every vote
        # A batch row that attends to all of its prefix needs all of it ranked.
        covers = [length for length, budget in zip(view.lengths, view.budgets) if budget >= length]
        kept = min(max([count, *covers]), width)
        return ranking(torch.where(union, votes, recency), kept, view.lengths), score


def layer_budgets(scores: Sequence[float], average: int, lowest: int) -> list[int]:
    """Share `average * len(scores)` entries by `scores`, at least `lowest` each, rounded down: the sum never exceeds.

    Where `lowest` lifts no layer this is floor(s / sum(s) K L) of MAGE v1; what it lifts is taken from the others.
    """
    budgets = [lowest] * len(scores)
    free = list(range(len(scores)))
    while free:
        left = average * len(scores) - lowest * (len(scores) - len(free))
        total = sum(scores[layer] for layer in free)
        # Rounded first: an equal share of 32 may come out as 31.999999999999996.
        shares = {layer: math.floor(round(left * scores[layer] / total, 6)) for layer in free}
        above = [layer for layer in free if shares[layer] >= lowest]
        if len(above) == len(free):
            for layer, share in shares.items():
                budgets[layer] = share
            break
        free = above
    return budgets
