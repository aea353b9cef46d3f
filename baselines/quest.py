"""Quest: page bounds, estimated anew at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mage.attention.operations import Lengths, Operations
from mage.budget import Budget
from mage.method import SELECT_BEFORE, Method, Plan, Scorers, Selection
from mage.row_values import row_values
from mage.selection import check_one_page, page_sizes, whole_pages
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

    def is_steady(self, lengths: list[int]) -> bool:
        return whole_pages(self.page_size, lengths)

    def metadata_of(self, lengths: list[int]) -> list[float]:
        return [float(-(-length // self.page_size)) for length in lengths]

    def entries_of(self, view: View) -> list[int] | None:
        return page_sizes(self.page_size, view.budgets, view.lengths)

    def keep_up(self, state: dict[str, Any], keys: Tensor, lengths: Lengths, operations: Operations) -> None:
        """Keep the smallest and the largest key of each page, `[batch, kv_heads, pages, d]` with room for all that the
        cache may hold; whole pages are kept from before, and written in place."""
        room = -(-keys.shape[2] // self.page_size)
        if "bounds" not in state or state["bounds"][0].shape[2] < room:
            shape = (*keys.shape[:2], room, keys.shape[3])
            state.update(bounds=(keys.new_empty(shape), keys.new_empty(shape)), whole_pages=0, lengths=None)
        if state["lengths"] != lengths.host:
            operations.page_bounds(keys, lengths, self.page_size, state["whole_pages"], state["bounds"])
            state.update(whole_pages=min(lengths.host) // self.page_size, lengths=list(lengths.host))

    def select(self, view: View) -> Selection:
        quota = view.quota
        if quota is None:
            self.keep_up(view.state, *view.cache, view.operations)
        low, high = view.state["bounds"]
        counts = [-(-length // self.page_size) for length in view.lengths]
        if quota is None:  # otherwise all that the cache may ever hold is scored
            low, high = low[:, :, : max(counts)], high[:, :, : max(counts)]
        bound = self._scores(view, low, high)
        if self.recent_pages:
            pages = row_values(counts, low.device) if quota is None else quota.lengths // self.page_size
            page, end = torch.arange(bound.shape[-1], device=bound.device), pages[:, None, None]
            bound = bound.masked_fill((page >= end - self.recent_pages) & (page < end), float("inf"))
        chosen, held = view.best(bound, self.page_size)
        return Selection(chosen, self.metadata_of(view.lengths), sizes=self.entries_of(view), counts=held)

    def _scores(self, view: View, low: Tensor, high: Tensor) -> Tensor:
        """Return what the bounds of each page promise, `[batch, heads, pages]`."""
        queries, scores = view.grouped_queries, view.operations.page_scores
        if self.share == "kv_head":
            return scores(queries, low, high, self.reduction)
        heads = queries.unflatten(2, (-1, view.queries.shape[2])).unbind(2)  # each [batch, kv_heads, rows, d]
        return torch.stack([scores(head, low, high, self.reduction) for head in heads], 2).flatten(1, 2)
