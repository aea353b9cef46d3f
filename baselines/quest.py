"""Quest: page bounds, estimated anew at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mage.budget import Budget
from mage.method import SELECT_BEFORE, Method, Plan, Selection
from mage.selection import check_one_page, page_sizes, top_pages
from mage.view import Forward, View


@dataclass(frozen=True, kw_only=True)
class Quest(Method):
    """The prefix is split into pages; per page and channel the smallest and largest key are kept. For a query,
    sum_d max(q_d min_d, q_d max_d) bounds the best score within a page from above. At every step the pages with the
    highest bounds are read. (arXiv 2406.10774, section 3.)

    Adapted to a block of queries: bounds are reduced over the rows that share one set, by `sum` or `max`. `share`: one
    set per `kv_head`, as every method here, or per `query_head`, as the paper. `page_size` in tokens. `recent_pages` at
    the end are always in (the published kernel keeps one, the published evaluation none). Reading the bounds costs a
    token equivalent per page, and is counted. The official minimum of three pages is dropped: it would exceed small
    budgets.
    """

    dense_layers: int = 2
    page_size: int = 16
    reduction: Literal["sum", "max"] = "sum"
    share: Literal["kv_head", "query_head"] = "kv_head"
    recent_pages: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("reduction", ("sum", "max"))
        self.check_choice("share", ("kv_head", "query_head"))
        self.check_at_least(page_size=1, recent_pages=0)

    @property
    def one_set_per_kv_head(self) -> bool:
        return self.share == "kv_head"

    def check_budget(self, budget: Budget) -> None:
        check_one_page(budget, self.page_size)

    def plan_step(self, forward: Forward) -> Plan:
        return SELECT_BEFORE

    def select(self, view: View) -> Selection:
        low, high = self._bounds(view)
        queries = view.grouped_queries.float()
        if self.share == "query_head":
            queries = queries.unflatten(2, (-1, view.queries.shape[2]))  # [batch, kv_heads, group, rows, d]
            low, high = low[:, :, None], high[:, :, None]
        positive, negative = queries.clamp(min=0), queries.clamp(max=0)
        if self.reduction == "sum":  # the bound is linear in each part, so rows can be summed first
            positive, negative = positive.sum(-2, keepdim=True), negative.sum(-2, keepdim=True)
        bound = (positive @ high.transpose(-1, -2) + negative @ low.transpose(-1, -2)).amax(-2)
        if self.share == "query_head":
            bound = bound.flatten(1, 2)  # [batch, heads, pages]
        for row, length in enumerate(view.lengths):
            pages = -(-length // self.page_size)
            bound[row, :, max(0, pages - self.recent_pages) : pages] = float("inf")
        return Selection(
            top_pages(bound, self.page_size, view.budgets, view.lengths),
            [-(-length // self.page_size) for length in view.lengths],
            sizes=page_sizes(self.page_size, view.budgets, view.lengths),
        )

    def _bounds(self, view: View) -> tuple[Tensor, Tensor]:
        """Return smallest and largest key of each page, `[batch, kv_heads, pages, d]`; whole pages are kept from
        before.
        """
        low, high = view.state.get("bounds", (None, None))
        done = view.state.get("whole_pages", 0)
        if low is not None and view.state["lengths"] == view.lengths:
            return low, high
        keys = view.keys[:, :, done * self.page_size :].float()
        if view.mask is not None:
            hidden = ~view.mask[:, :, 0, done * self.page_size :, None]
        else:
            hidden = torch.zeros((1, 1, keys.shape[2], 1), dtype=torch.bool, device=keys.device)
        fresh = []
        for limit, reduce in ((float("inf"), torch.amin), (float("-inf"), torch.amax)):
            filled = keys.masked_fill(hidden, limit)
            padding = filled.new_full((*filled.shape[:2], -filled.shape[2] % self.page_size, filled.shape[3]), limit)
            pages = torch.cat((filled, padding), 2).unflatten(2, (-1, self.page_size))
            # A page without any valid key stays infinite: zero it, top_pages never picks it.
            fresh.append(reduce(pages, 3).nan_to_num(posinf=0.0, neginf=0.0))
        if low is not None:
            fresh = [torch.cat((old[:, :, :done], new), 2) for old, new in zip((low, high), fresh)]
        whole = min(view.lengths) // self.page_size
        view.state.update(bounds=(fresh[0], fresh[1]), whole_pages=whole, lengths=list(view.lengths))
        return fresh[0], fresh[1]
