"""Which schema a line of examples.jsonl has, by the runner that wrote it. Without torch, so that readers start fast."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from runners.latency_result import LatencyResult
from runners.record import ExampleResult, RecallResult

Row = ExampleResult | RecallResult | LatencyResult
ROWS: dict[str, type[ExampleResult] | type[RecallResult] | type[LatencyResult]] = {
    "evaluate": ExampleResult,
    "recall": RecallResult,
    "latency": LatencyResult,
}


class NamedRow(BaseModel):
    """A line of which no more is known than that it is of one example."""

    model_config = ConfigDict(extra="allow")

    id: str


def row_type(runner: str | None) -> type[BaseModel]:
    """Return the schema of a runner's lines; of one that is not ours, or not known, that of any line."""
    return ROWS.get(runner or "", NamedRow)
