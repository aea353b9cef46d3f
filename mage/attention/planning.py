"""What a forward is to do, said before it runs."""

from __future__ import annotations

from torch import Tensor

from mage.attention.forward_pass import Pass
from mage.attention.kept import KeptParts
from mage.attention.operations import Lengths
from mage.method import EXACT, REUSE, Method, Plan
from mage.quota import Quotas
from mage.view import Forward


class Planner:
    """Plans the forwards of one generation. `follows`: whether a layer attends to the set of another. `overlaps`:
    whether sets may be chosen in the forward that plans them, beside its layers."""

    def __init__(self, method: Method, kept: KeptParts, layers: range, *, overlap: bool, room: int | None) -> None:
        """`layers`: those that may attend to sets. `room`: see `Quota`; None where all goes by the host."""
        self._method, self._kept = method, kept
        self.follows = any(method.source_layer(layer) != layer for layer in layers)
        self.overlaps = overlap and not self.follows and not method.lasting
        self._quotas = None if room is None else Quotas(room)

    def plan(
        self,
        forward: Forward,
        budgets: list[int],
        valid: Lengths,
        prompt_rows: Tensor,
        *,
        causal: bool,
        rows: list[bool] | None,
        ahead: int,
    ) -> Pass:
        """Return what is known of `forward`, over `valid` entries, under the resolved `budgets`."""
        limited = self._limited(budgets, valid.host)
        plan = self._kept.planned(forward, self._method.plan(forward) if any(limited) else EXACT)
        steady = any(limited) and self._method.is_steady(valid.host)
        quota = self._quotas.of(budgets, limited, valid) if steady and self._quotas is not None else None
        beside = self.overlaps and plan.select == "after" and steady
        return Pass(forward, plan, budgets, limited, valid, prompt_rows, causal, rows, beside, ahead, quota)

    def of_layer(self, plan: Plan, layer: int) -> Plan:
        """Return what one layer does: `plan`, or to follow the layer whose set it shares."""
        if layer < self._method.dense_layers:
            return EXACT
        return REUSE if plan.select is not None and self._method.source_layer(layer) != layer else plan

    def can_fuse(self, forward: Forward, budgets: list[int], lengths: list[int]) -> bool:
        """See `BlockAttention.can_fuse`."""
        plan = self._method.plan(forward) if any(self._limited(budgets, lengths)) else EXACT
        return plan.exact and (plan.select is None or not (forward.commit or self.follows))

    def _limited(self, budgets: list[int], lengths: list[int]) -> list[bool]:
        """A row whose budget covers its prefix pays for no selection: alone in a batch it would not select."""
        return [not self._method.uses_budget or budget < n for budget, n in zip(budgets, lengths)]
