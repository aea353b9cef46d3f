"""Which cells of a sweep are computed together, example by example."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

from runners.cell import Cell

MOST_TOGETHER = 128  # each holds a lock, an open file; one more prefill in so many cells is nothing


def groups_of(cells: Sequence[Cell], most: int = MOST_TOGETHER) -> list[list[Cell]]:
    """Split cells into groups whose prompts are prefilled once, in the order of their first cells.

    The cells of a group have the body, the examples and the number of examples at a time in common. What decodes with
    another block size or adapter stands together within it. No group has more than `most` cells.
    """
    found: dict[Hashable, list[Cell]] = defaultdict(list)
    for cell in cells:
        found[cell.prefix_key, cell.runner.group_size].append(cell)
    groups = []
    for group in found.values():
        first: dict[Hashable, int] = {}
        for cell in group:
            first.setdefault(cell.model_key, len(first))
        ordered = sorted(group, key=lambda cell: first[cell.model_key])
        groups += [ordered[start : start + most] for start in range(0, len(ordered), most)]
    return groups
