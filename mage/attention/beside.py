"""A second queue of the device, for work that runs beside the layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Beside:
    """A stream of its own on a GPU; elsewhere work is done where it stands.

    Tensors of the first stream that are used here must live until `join`.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @contextmanager
    def run(self) -> Iterator[None]:
        """Queue what is done within, behind what the first stream was given before."""
        if self._stream is None:
            yield
            return
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield

    def join(self) -> None:
        """Let the first stream wait for all that was queued."""
        if self._stream is not None:
            torch.cuda.current_stream().wait_stream(self._stream)
