"""A clock that tells device time: CUDA events on a GPU, a monotonic counter elsewhere."""

from __future__ import annotations

import time
from typing import Any

import torch


class Clock:
    """Marks points in the device's work and tells the seconds between two of them.

    On a GPU a mark is an event that costs no synchronisation; reading a difference waits for the later event.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._cuda = device, device.type == "cuda"

    def mark(self) -> Any:
        """Return a point in time, opaque to the caller."""
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def seconds(self, begin: Any, end: Any) -> float:
        """Return the seconds between two marks."""
        if not self._cuda:
            return float(end - begin)
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1000.0
