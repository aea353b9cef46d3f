"""What the timing of a kernel is called in records and tables. Needs no torch: readers of records use it."""

from __future__ import annotations


def kernel_name(kernel: str, implementation: str, context: int, batch: int) -> str:
    """Return the name of one implementation of a kernel on a shape, such as `mass/triton/131072x8`."""
    return f"{kernel}/{implementation}/{context}x{batch}"
