"""A second queue of the device, for work that runs beside the layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch


class Beside:
    """A stream of its own on a GPU; elsewhere work is done where it stands.

    Tensors of the first stream that are used here must live until `join`.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = _side_stream(device) if device.type == "cuda" else None

    @contextmanager
    def run(self) -> Iterator[None]:
        """Queue what is done within, behind what the first stream was given before."""
        if self._stream is None:
            yield
            return
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            yield

    def join(self) -> None:
        """Let the first stream wait for all that was queued."""
        if self._stream is not None:
            torch.cuda.current_stream(self._device).wait_stream(self._stream)


@lru_cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return one stream for all generations: the allocator keeps memory apart for each stream it sees."""
    return torch.cuda.Stream(device)
