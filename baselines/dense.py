"""Dense attention: the reference every method is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mage.method import EXACT, Method, Plan, Selection
from mage.view import Forward, View


@dataclass(frozen=True, kw_only=True)
class Dense(Method):
    """Every layer attends to the whole prefix in every forward."""

    uses_budget: ClassVar[bool] = False

    def plan_step(self, forward: Forward) -> Plan:
        return EXACT

    def select(self, view: View) -> Selection:
        raise RuntimeError("dense attention selects nothing")
