"""Oracle top-k: the most attention mass that one shared set per KV head can hold, at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mage.method import SELECT_BEFORE, Method, Plan, Selection
from mage.selection import keys_read, top_k
from mage.view import Forward, Reduction, View


@dataclass(frozen=True, kw_only=True)
class Oracle(Method):
    """At every step, the exact attention mass of that step picks the top-k of each layer and KV head. It reads every
    key to do so: a mark to measure others by, not a way to save time; its measured density says so. It is greedy in
    mass, and has no exact step: a method that has one can score higher.
    """

    capturable: ClassVar[bool] = True
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("reduction", ("mean", "max", "mean_query"))

    def plan_step(self, forward: Forward) -> Plan:
        return SELECT_BEFORE

    def metadata_of(self, lengths: list[int]) -> list[float]:
        return keys_read(lengths)

    def select(self, view: View) -> Selection:
        mass = view.mass(self.reduction)
        chosen = top_k(mass, view.budgets, view.lengths)
        return Selection(chosen, self.metadata_of(view.lengths), sizes=self.entries_of(view))
