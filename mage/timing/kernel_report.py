"""The timings of kernels on several shapes: told line by line, summed up, and as a record."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import torch

from mage.attention.operations import Operations
from mage.shortage import is_out_of_memory
from mage.timing.kernel_cases import KERNELS
from mage.timing.kernel_shape import KernelShape
from mage.timing.kernel_suite import KernelTiming, check_kernels, time_kernels
from mage.timing.roofs import Roofs, measure_roofs

ABOVE = "above its roof: the machine was busy, or the operands stayed in a cache"


@dataclass(frozen=True)
class KernelReport:
    """What `report_kernels` found. `implementation`: the name of our operations. `too_large`: shapes, as context x
    batch, that the device has no memory for."""

    implementation: str
    dtype: torch.dtype
    roofs: Roofs
    timings: list[KernelTiming]
    too_large: list[str]

    @property
    def wrong(self) -> list[str]:
        """Kernels of ours that failed or computed something else, by name and shape."""
        names = (self.implementation, "torch")  # whatever computes attention, entries are chosen by torch's own top-k
        ours = [t for t in self.timings if t.implementation in names]
        return [t.name for t in ours if t.failure is not None or not t.is_right(self.dtype)]

    @property
    def above_roof(self) -> list[str]:
        """Timings that are faster than the roof allows, by name and shape."""
        return [timing.name for timing in self.timings if timing.is_above_roof]

    @property
    def is_good(self) -> bool:
        """Whether every kernel of ours was timed on every shape and is right."""
        return not self.wrong and not self.too_large

    def summary(self) -> dict[str, Any]:
        """Return the shares of the nearer roof by name and shape, those above it, and what went wrong."""
        shares = {t.name: round(t.share, 4) for t in self.timings if t.share is not None}
        told = {"above_roof": self.above_roof, "wrong": self.wrong, "too_large": self.too_large}
        return {"attention": self.implementation, "share": shares, **told}

    def record(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        return {
            "roofs": asdict(self.roofs),
            "timings": [asdict(timing) for timing in self.timings],
            "wrong": self.wrong,
            "too_large": self.too_large,
        }


def report_kernels(
    shapes: Sequence[KernelShape],
    ours: Operations,
    device: torch.device,
    dtype: torch.dtype,
    *,
    kernels: Collection[str] = tuple(KERNELS),
    runs: int = 20,
    roofs: Roofs | None = None,
    say: Callable[[str], None] = print,
) -> KernelReport:
    """Time `kernels` on each shape beside the `roofs` of `device` (None: measured first), and `say` each timing.

    The roofs are measured once more behind the kernels, and the higher ones count: a busy machine lowers a roof, and
    what is timed while it is not is above it. Raises `UserError` for the name of a kernel that there is not.
    """
    check_kernels(kernels)
    roofs = roofs or measure_roofs(device, dtype)
    say(f"roofs: {_rates(roofs)}")
    timings: list[KernelTiming] = []
    too_large: list[str] = []
    for shape in shapes:
        try:
            for timing in time_kernels(shape, ours, roofs, device, dtype, kernels=kernels, runs=runs):
                say(_line(timing))
                timings.append(timing)
        except (RuntimeError, MemoryError) as problem:  # torch's own error is a RuntimeError, too
            if not is_out_of_memory(problem):
                raise
            too_large.append(f"{shape.context}x{shape.batch}")
            say(f"context {shape.context} batch {shape.batch}: out of memory")
    again = _measured_again(roofs, device, dtype)
    if again != roofs:
        say(f"roofs, measured again: {_rates(again)}; shares are told beside these")
    return KernelReport(ours.name, dtype, again, [timing.beside(again) for timing in timings], too_large)


def _measured_again(roofs: Roofs, device: torch.device, dtype: torch.dtype) -> Roofs:
    """The higher ones of `roofs` and what is measured now; on a device that a kernel broke, `roofs`."""
    with suppress(RuntimeError, MemoryError):
        return roofs.better(measure_roofs(device, dtype))
    return roofs


def _rates(roofs: Roofs) -> str:
    return f"{roofs.bytes_per_second / 1e9:.0f} GB/s, {roofs.flops_per_second / 1e12:.3g} TFLOP/s"


def _line(timing: KernelTiming) -> str:
    """A timing for a person."""
    head = f"{timing.kernel:16} {timing.implementation:18} context {timing.context:7} batch {timing.batch:3}"
    if timing.seconds is None or timing.spread is None or timing.share is None:
        return f"{head}  {timing.failure}"
    error = "" if timing.relative_error is None else f"  error {timing.relative_error:.1e}"
    mark = f"  {ABOVE}" if timing.is_above_roof else ""
    return (
        f"{head}  {timing.seconds * 1e6:10.1f} us +- {timing.spread * 1e6:8.1f}  {timing.gb_per_second:8.1f} GB/s"
        f"  {timing.tflops_per_second:8.3f} TFLOP/s  {timing.share:6.1%} of {timing.roof}{error}{mark}"
    )
