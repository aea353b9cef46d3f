"""The peak of the memory that some work takes."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress

import torch


class PeakMemory:
    """The peak memory in bytes since this object was made: allocated on the GPU, else resident in the process.

    Where the system can, the peak is counted anew from here.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device if device.type == "cuda" else None
        if self._cuda is not None:
            torch.cuda.reset_peak_memory_stats(self._cuda)
        else:
            with suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
                file.write("5")  # resets VmHWM, see proc(5)

    def read(self) -> float:
        """Return the peak since the start."""
        if self._cuda is not None:
            return float(torch.cuda.max_memory_allocated(self._cuda))
        if sys.platform == "darwin":
            return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        with open("/proc/self/status", encoding="ascii") as file:
            return next(float(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
