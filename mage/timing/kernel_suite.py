"""Kernels timed one by one from cold caches, each beside its roof and its error."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from mage.attention.operations import Operations
from mage.errors import unknown_choice
from mage.generation.clock import Clock
from mage.shortage import is_out_of_memory
from mage.timing.kernel_cases import KERNELS, Case
from mage.timing.kernel_name import kernel_name
from mage.timing.kernel_reference import is_reference
from mage.timing.kernel_shape import KernelShape, Operands
from mage.timing.roofs import Roofs
from mage.timing.spread import interquartile_range, median

# Read before each run: several last-level caches, and on a GPU long enough for the host to queue the run behind it.
FLUSHED_BYTES = {"cuda": 2**30, "cpu": 2**26}
LEAST_RUNS = 3
# The relative error norm that is still right: of the roundings of a dtype in sums of random terms.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 1e-2}


@dataclass(frozen=True)
class KernelTiming:
    """One implementation of one kernel on one shape.

    `seconds`: the median of `runs` runs, `spread` their interquartile range. `bytes`, `flops`: what had to pass, see
    `mage.timing.kernel_cases`. `share`: the least time at the nearer `roof` over `seconds`. `relative_error`: None
    where nothing was compared. `failure`: why there is no time; then the numbers are None.
    """

    kernel: str
    implementation: str
    context: int
    batch: int
    bytes: float
    flops: float
    roof: Literal["bandwidth", "matrix"]
    runs: int = 0
    seconds: float | None = None
    spread: float | None = None
    gb_per_second: float | None = None
    tflops_per_second: float | None = None
    share: float | None = None
    relative_error: float | None = None
    failure: str | None = None

    @property
    def name(self) -> str:
        """As in records."""
        return kernel_name(self.kernel, self.implementation, self.context, self.batch)

    def is_right(self, dtype: torch.dtype) -> bool:
        """Whether what was compared is within the tolerance of a dtype."""
        return self.relative_error is None or self.relative_error <= TOLERANCE[dtype]

    @property
    def is_above_roof(self) -> bool:
        """Whether it was faster than the roof allows: the roof or the time was disturbed, or the operands stayed in a
        cache."""
        return self.share is not None and self.share > 1

    def beside(self, roofs: Roofs) -> KernelTiming:
        """Return the same timing beside other roofs."""
        if self.seconds is None:
            return self
        share = roofs.seconds(self.bytes, self.flops) / self.seconds
        return replace(self, roof=roofs.nearer(self.bytes, self.flops), share=share)


def check_kernels(names: Collection[str]) -> None:
    """Raise `UserError` for the name of a kernel that there is not."""
    for name in names:
        if name not in KERNELS:
            raise unknown_choice("kernel", name, KERNELS)


@torch.inference_mode()
def time_kernels(
    shape: KernelShape,
    ours: Operations,
    roofs: Roofs,
    device: torch.device,
    dtype: torch.dtype,
    *,
    kernels: Collection[str] = tuple(KERNELS),
    runs: int = 20,
    seconds: float = 2.0,
) -> Iterator[KernelTiming]:
    """Time `kernels` on a shape: at most `runs` runs of each, or `seconds` of them, and at least three.

    What cannot serve the shape, or is not installed, is told as a failure. Raises what a lack of memory for the
    operands raises.
    """
    cold, operands = ColdClock(device), Operands(shape, device, dtype)
    for name in kernels:
        try:
            cases = list(KERNELS[name](operands, ours))
        except Exception as problem:  # a device that an earlier kernel broke
            if is_out_of_memory(problem):
                raise
            yield KernelTiming(
                name, ours.name, shape.context, shape.batch, 0.0, 0.0, "bandwidth", failure=_told(problem)
            )
            continue
        for case in cases:
            if case.implementation == ours.name and is_reference(name, ours, operands):
                case = replace(case, error=None)
            yield _timed(case, shape, roofs, cold, runs, seconds)


def _timed(case: Case, shape: KernelShape, roofs: Roofs, cold: ColdClock, runs: int, seconds: float) -> KernelTiming:
    known: dict[str, Any] = {
        "kernel": case.kernel,
        "implementation": case.implementation,
        "context": shape.context,
        "batch": shape.batch,
        "bytes": case.bytes,
        "flops": case.flops,
        "roof": roofs.nearer(case.bytes, case.flops),
    }
    try:
        work = case.prepare()
        error = None if case.error is None else case.error(work())
        if error is not None and not math.isfinite(error):
            return KernelTiming(**known, failure="what it computed is not finite")
        times = cold.times(work, runs, seconds)
    except Exception as problem:  # a compiler raises what it likes, and the others are to be timed all the same
        return KernelTiming(**known, failure=_told(problem))
    middle = median(times)
    return KernelTiming(
        **known,
        runs=len(times),
        seconds=middle,
        spread=interquartile_range(times),
        gb_per_second=case.bytes / middle / 1e9,
        tflops_per_second=case.flops / middle / 1e12,
        share=roofs.seconds(case.bytes, case.flops) / middle,
        relative_error=error,
    )


def _told(problem: Exception) -> str:
    return f"{type(problem).__name__}: {str(problem).strip().partition(chr(10))[0]}"


class ColdClock:
    """Times work whose operands no cache holds any more."""

    def __init__(self, device: torch.device) -> None:
        self._clock = Clock(device)
        self._flushed = torch.ones(FLUSHED_BYTES[device.type] // 4, dtype=torch.int32, device=device)

    def times(self, work: Callable[[], object], runs: int, seconds: float) -> list[float]:
        """Return the seconds of each run, after one that warms up."""
        work()
        found: list[float] = []
        while len(found) < runs and (len(found) < LEAST_RUNS or sum(found) < seconds):
            self._flushed.amax()  # read, not written: what a cache had to write back would be on the clock
            began = self._clock.mark()
            work()
            found.append(self._clock.seconds(began, self._clock.mark()))
        return found
