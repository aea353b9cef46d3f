"""SparseD: dense at first, then one frozen pattern of key blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from mage.budget import Budget
from mage.errors import UserError
from mage.method import EXACT, REUSE, SELECT_AFTER, Method, Plan, Selection
from mage.selection import check_one_page, keys_read, page_mass, page_sizes, whole_pages
from mage.view import Forward, View


@dataclass(frozen=True, kw_only=True)
class SparseD(Method):
    """The early denoising steps matter most and attend exactly. The last of them averages the attention probability
    within each block of keys and keeps the blocks that have most. The pattern is frozen for all later steps.
    (arXiv 2509.24014.)

    Adapted to a block of queries, which is one query block and shares one set per KV head: probabilities are averaged
    over its rows and the query group. The exact steps are int(`skip` * T) + 1, as in the published code, with T the
    block size: the steps of a block at one token a step. `dense_steps` gives their number outright, for decoding that
    takes fewer. `page_size`: keys per block, 32 for short prompts and 128 for long ones in the paper.

    Deviations: a budget as every method here (the paper keeps 0.3 or 0.5 of the blocks, and one more: budget=0.3);
    prompt and answer are ranked together, where the paper takes its share of each.
    """

    dense_layers: int = 0
    skip: float = 0.2
    dense_steps: int | None = None
    page_size: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_at_least(page_size=1)
        if not 0.0 <= self.skip < 1.0:
            raise UserError(f"method.skip={self.skip} is out of range. Allowed: at least 0 and below 1.")
        if self.dense_steps is not None:
            self.check_at_least(dense_steps=1)

    def check_budget(self, budget: Budget) -> None:
        check_one_page(budget, self.page_size)

    def for_model(self, num_layers: int, block_size: int) -> Self:
        # Rounded first: 0.29 * 100 is 28.999999999999996 in floating point.
        steps = self.dense_steps or int(round(self.skip * block_size, 9)) + 1
        if self.commit == "sparse" and steps > 1:
            # A block may be finished before its set is chosen.
            raise UserError(f"method.commit=sparse needs one exact step, and here are {steps}: method.dense_steps=1.")
        return replace(self, dense_steps=steps)

    def plan_step(self, forward: Forward) -> Plan:
        if forward.commit:
            return REUSE
        assert self.dense_steps is not None, "for_model fills it in"
        if forward.step == self.dense_steps:
            return SELECT_AFTER
        return EXACT if forward.step < self.dense_steps else REUSE

    def is_steady(self, lengths: list[int]) -> bool:
        return whole_pages(self.page_size, lengths)

    def metadata_of(self, lengths: list[int]) -> list[float]:
        return keys_read(lengths)

    def entries_of(self, view: View) -> list[int] | None:
        return page_sizes(self.page_size, view.budgets, view.lengths)

    def select(self, view: View) -> Selection:
        indices, counts = view.best(page_mass(view.mass(), self.page_size), self.page_size)
        return Selection(indices, self.metadata_of(view.lengths), sizes=self.entries_of(view), counts=counts)
