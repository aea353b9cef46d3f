"""Quest: page bounds, estimated anew at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from mage.budget import Budget
from mage.method import SELECT_BEFORE, Method, Plan, Scorers, Selection
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

    capturable: ClassVar[bool] = True
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
    def scorers(self) -> Scorers:
        if self.reduction == "max":
            return "positions"
        return "kv_heads" if self.share == "kv_head" else "query_heads"  # a bound is linear: rows are summed first

    @property
    def one_set_per_kv_head(self) -> bool:
        return self.share == "kv_head"

    def check_budget(self, budget: Budget) -> None:
        check_one_page(budget, self.page_size)

    def plan_step(self, forward: Forward) -> Plan:
        return SELECT_BEFORE

    def select(self, view: View) -> Selection:
        pages = [-(-length // self.page_size) for length in view.lengths]
        low, high = (bound[:, :, : max(pages)] for bound in self._bounds(view))
        queries = view.grouped_queries
        if self.share == "query_head":
            heads = queries.unflatten(2, (-1, view.queries.shape[2])).unbind(2)  # each [batch, kv_heads, rows, d]
            scores = [view.operations.page_scores(head, low, high, self.reduction) for head in heads]
            bound = torch.stack(scores, 2).flatten(1, 2)  # [batch, heads, pages]
        else:
            bound = view.operations.page_scores(queries, low, high, self.reduction)
        for row, count in enumerate(pages):
            bound[row, :, max(0, count - self.recent_pages) : count].fill_(float("inf"))
        return Selection(
            top_pages(bound, self.page_size, view.budgets, view.lengths),
            [float(count) for count in pages],
            sizes=page_sizes(self.page_size, view.budgets, view.lengths),
        )

    def _bounds(self, view: View) -> tuple[Tensor, Tensor]:
        """Return smallest and largest key of each page, `[batch, kv_heads, pages, d]` with room for all that the cache
        may hold; whole pages are kept from before, and written in place.
        """
        state, (keys, lengths) = view.state, view.cache
        room = -(-keys.shape[2] // self.page_size)
        if "bounds" not in state or state["bounds"][0].shape[2] < room:
            shape = (*keys.shape[:2], room, keys.shape[3])
            state.update(bounds=(keys.new_empty(shape), keys.new_empty(shape)), whole_pages=0, lengths=None)
        if state["lengths"] != view.lengths:
            view.operations.page_bounds(keys, lengths, self.page_size, state["whole_pages"], state["bounds"])
            state.update(whole_pages=min(view.lengths) // self.page_size, lengths=list(view.lengths))
        bounds: tuple[Tensor, Tensor] = state["bounds"]
        return bounds
