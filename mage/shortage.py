"""Out of memory, as torch and Python tell of it."""

from __future__ import annotations

import torch

# A failed allocation that torch reports as a plain RuntimeError: on the CPU, and while CUDA starts; then sizes that it
# cannot even count.
NO_MEMORY = ("can't allocate memory", "out of memory", "Storage size calculation overflowed")


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether `problem` says that there is no memory for what was asked."""
    unnamed = isinstance(problem, RuntimeError) and any(text in str(problem) for text in NO_MEMORY)
    return unnamed or isinstance(problem, MemoryError | torch.OutOfMemoryError)
