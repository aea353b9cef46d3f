"""The roofs of a device: how fast it moves bytes and multiplies matrices, measured here and now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

COPY_BYTES = {"cuda": 2**31, "cpu": 2**27}  # of the source: far beyond what a last-level cache holds
PRODUCT_SIZE = {"cuda": 8192, "cpu": 768}  # rows and columns of two square matrices
LEAST_RUNS, MOST_RUNS = 3, 50
SECONDS = 0.4  # of timed runs for each roof


@dataclass(frozen=True)
class Roofs:
    """`bytes_per_second`: the larger of two rates: of a copy within the device's memory, read and written bytes both
    counted, and of a reduction, which only reads, as attention to a long prefix does. `flops_per_second`: of a large
    matrix product in the dtype of the weights, two operations a multiplication.
    """

    bytes_per_second: float
    flops_per_second: float

    def seconds(self, moved: float, flops: float) -> float:
        """Return the least time in which `moved` bytes and `flops` operations can pass, one beside the other."""
        return max(moved / self.bytes_per_second, flops / self.flops_per_second)

    def nearer(self, moved: float, flops: float) -> Literal["bandwidth", "matrix"]:
        """Return which roof decides that least time."""
        return "bandwidth" if moved / self.bytes_per_second >= flops / self.flops_per_second else "matrix"

    def better(self, other: Roofs) -> Roofs:
        """Return the higher ones of two measurements of one device: what disturbs a measurement lowers it."""
        return Roofs(
            max(self.bytes_per_second, other.bytes_per_second), max(self.flops_per_second, other.flops_per_second)
        )


def measure_roofs(device: torch.device, dtype: torch.dtype) -> Roofs:
    """Measure the roofs of `device` for weights of `dtype`: the medians of warm runs.

    Takes less than two seconds; on a CPU with the threads that are set. On a GPU it needs 4 GiB, or less where less is
    free.
    """
    import torch

    size = COPY_BYTES[device.type]
    if device.type == "cuda":
        size = min(size, torch.cuda.mem_get_info(device)[0] // 4)
    return Roofs(_bytes_per_second(size, device), _flops_per_second(PRODUCT_SIZE[device.type], device, dtype))


def _bytes_per_second(size: int, device: torch.device) -> float:
    import torch

    source = torch.ones(size // 4, dtype=torch.int32, device=device)
    target = torch.empty_like(source)
    moved = source.numel() * source.itemsize
    copied, read = (_seconds(work, device) for work in (lambda: target.copy_(source), source.amax))
    return max(2 * moved / copied, moved / read)


def _flops_per_second(size: int, device: torch.device, dtype: torch.dtype) -> float:
    import torch

    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * size**3 / _seconds(lambda: torch.mm(a, b, out=out), device)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the median seconds of `work`, each run timed by itself, after one that warms up and one that is sized."""
    from mage.generation.clock import Clock

    clock = Clock(device)

    def timed() -> float:
        began = clock.mark()
        work()
        return clock.seconds(began, clock.mark())

    timed()
    runs = int(SECONDS / max(timed(), 1e-9))
    return median(timed() for _ in range(max(LEAST_RUNS, min(MOST_RUNS, runs))))
