"""What a forward read of the prefix, counted."""

from __future__ import annotations

from collections.abc import Sequence

from mage.attention.compact import CompactPrefix
from mage.attention.forward_pass import Pass
from mage.attention.kept import KeptPart


def reads_of(
    now: Pass, chosen: Sequence[float], attended: Sequence[CompactPrefix | KeptPart | None]
) -> tuple[list[float], list[float], list[bool]]:
    """Return, of the forward `now` and by batch row, the entries that it read and those that a dense one would have
    read, summed over layers, and whether any layer attended to less than the whole prefix.

    `chosen[row]`: entries that choosing read. `attended`: what each layer attended to in place of the prefix; None: to
    the prefix.
    """
    reads, sparse = list(chosen), [False] * len(chosen)
    for row, length in enumerate(now.valid.host):
        for held in attended:
            if held is None or not now.limited[row]:
                reads[row] += length
            else:
                reads[row] += held.reads[row]
                sparse[row] |= held.fewest[row] < length
    return reads, [float(length * len(attended)) for length in now.valid.host], sparse
