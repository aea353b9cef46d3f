"""Numbers by batch row, brought to a device once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

KEPT = 256  # different rows of numbers that stay on their device: some for each block of a generation


def row_values(values: Sequence[int], device: torch.device) -> Tensor:
    """Return `values`, one a row, as int64 `[batch]`. Not to be written to.

    A copy from the host may wait for the device, and none can be captured in a graph: what was asked for before is
    there already.
    """
    return _brought(tuple(values), device)


@lru_cache(maxsize=KEPT)
def _brought(values: tuple[int, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # whoever asks first, in training or not
        return torch.tensor(values, dtype=torch.int64, device=device)
