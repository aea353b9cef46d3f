"""MAGE: the all-[MASK] block already knows where to look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mage.budget import Budget
from mage.errors import UserError
from mage.method import EXACT, REUSE, SELECT_AFTER, Method, Plan, Selection
from mage.selection import check_one_page, keys_read, page_mass, page_sizes, whole_pages
from mage.view import Denominator, Forward, Reduction, View


@dataclass(frozen=True, kw_only=True)
class Mage(Method):
    """The first denoising step of a block, when every position is [MASK], attends exactly. Its attention mass, averaged
    over the block's rows and the query group, picks the top-k prefix entries of each layer and KV head. All later steps
    of the block attend to these entries and to the block itself. (arXiv 2602.14209 v2.)

    Options the paper leaves open: `select_step`, the step whose mass decides (steps up to it are exact);
    `refresh_every`, attend exactly and select anew every that many steps (0: never); `reduction` over rows;
    `denominator` of the mass; `page_size`, the granularity in tokens; `commit`.
    """

    dense_layers: int = 2
    select_step: int = 1
    refresh_every: int = 0
    reduction: Reduction = "mean"
    denominator: Denominator = "prefix+block"
    page_size: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("reduction", ("mean", "max", "mean_query"))
        self.check_choice("denominator", ("prefix+block", "prefix"))
        self.check_at_least(select_step=1, refresh_every=0, page_size=1)
        if self.commit == "sparse" and (self.select_step > 1 or self.refresh_every):
            # A block may be finished before its set is chosen or renewed.
            raise UserError("method.commit=sparse needs method.select_step=1 and method.refresh_every=0.")

    def is_steady(self, lengths: list[int]) -> bool:
        return self.reduction != "mean_query" and whole_pages(self.page_size, lengths)

    def metadata_of(self, lengths: list[int]) -> list[float]:
        return keys_read(lengths)

    def entries_of(self, view: View) -> list[int] | None:
        return page_sizes(self.page_size, view.budgets, view.lengths)

    def check_budget(self, budget: Budget) -> None:
        check_one_page(budget, self.page_size)

    def plan_step(self, forward: Forward) -> Plan:
        if forward.commit:
            return REUSE
        if forward.step < self.select_step:
            return EXACT
        since = forward.step - self.select_step
        if since == 0 or (self.refresh_every and since % self.refresh_every == 0):
            return SELECT_AFTER
        return REUSE

    def select(self, view: View) -> Selection:
        return self._selection(*self._best(self._mass(view), view), view)

    def select_layers(self, views: Sequence[View]) -> list[Selection]:
        first = views[0]
        if not first.operations.static:
            return super().select_layers(views)
        # One ranking for all layers: a GPU ranks many rows in the time of few.
        chosen, counts = self._best(torch.cat([self._mass(view) for view in views], 1), first)
        return [self._selection(part, counts, first) for part in chosen.split(first.num_kv_heads, 1)]

    def _mass(self, view: View) -> Tensor:
        return view.mass(self.reduction, self.denominator)

    def _best(self, mass: Tensor, view: View) -> tuple[Tensor, Tensor | None]:
        """Return the entries of highest `mass` `[batch, heads, n]`, see `View.best`."""
        if self.page_size == 1:
            return view.best(mass, masked=True)
        return view.best(page_mass(mass, self.page_size), self.page_size)

    def _selection(self, chosen: Tensor, counts: Tensor | None, view: View) -> Selection:
        return Selection(chosen, self.metadata_of(view.lengths), sizes=self.entries_of(view), counts=counts)
