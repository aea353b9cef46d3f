"""What runner=kernels and the speed suite leave: one file of timings, validated by whoever reads it. Without torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mage.timing.kernel_name import kernel_name
from mage.timing.roofs import Roofs
from runners.record import Environment, Schema

PATTERN = "kernels_*.json"


class KernelTiming(Schema):
    """One implementation of one kernel on one shape: the fields of `mage.timing.kernel_suite.KernelTiming`, which tells
    what they are."""

    kernel: str
    implementation: str
    context: int
    batch: int
    bytes: float
    flops: float
    roof: Literal["bandwidth", "matrix"]
    runs: int
    seconds: float | None
    spread: float | None
    gb_per_second: float | None
    tflops_per_second: float | None
    share: float | None
    relative_error: float | None
    failure: str | None

    @property
    def shape(self) -> tuple[str, int, int]:
        """The kernel, and context and batch that it was timed on."""
        return self.kernel, self.context, self.batch

    @property
    def name(self) -> str:
        """How `KernelRecord.wrong` names it."""
        return kernel_name(self.kernel, self.implementation, self.context, self.batch)


class KernelRecord(Schema):
    """The timings of one run, the roofs measured in it, and what went wrong: `wrong` names kernels of ours, see
    `KernelTiming.name`, `too_large` shapes as context x batch.

    `model`, `dtype`, `block_size`, `budget` and `page_size` decide the timings beside the shapes; a record of before
    they were written lacks some. runner=kernels tells its `config`, too, the speed suite the `context` of all timings.
    """

    runner: Literal["kernels"]
    environment: Environment
    roofs: Roofs
    timings: list[KernelTiming]
    wrong: list[str]
    too_large: list[str]
    model: str | None = None
    dtype: str | None = None
    block_size: int | None = None
    budget: int | float | None = None
    page_size: int | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    context: int | None = None
