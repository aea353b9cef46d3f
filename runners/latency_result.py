"""runner=latency: one round, a line of examples.jsonl."""

from __future__ import annotations

from mage.timing.bound import Bound
from mage.timing.rounds import Conditions, Round
from runners.record import Schema


class LatencyResult(Schema):
    """Dense and the method timed side by side, with the bounds of both, and what all rounds of the cell share."""

    id: str
    round: Round
    dense_bound: Bound
    method_bound: Bound
    conditions: Conditions
