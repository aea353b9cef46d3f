"""How the cells of a sweep are shared out among jobs: those that share a prefill stay together where they can."""

from __future__ import annotations

from collections.abc import Sequence

from runners.cell import Cell
from runners.sweeping.grouping import groups_of

UNEVEN = 1.5  # how much more than its share of the work a group may be before it is split
EXAMPLES = 40  # of a task that says for itself how many it has


def parts_of(cells: Sequence[Cell], jobs: int) -> list[list[Cell]]:
    """Return at most `jobs` parts of the cells, each cell once, in the order of the sweep.

    Groups that share a prefill are whole, but where there are fewer groups than jobs, or one of them is more than
    `UNEVEN` times what a job should have: then the largest is halved. Each goes to the job that has least to do.
    """
    groups = groups_of(cells)
    fair = sum(map(cost, cells)) / jobs
    while True:
        splittable = [group for group in groups if len(group) > 1]
        largest = max(splittable, key=_total, default=[])
        if not largest or (len(groups) >= jobs and _total(largest) <= UNEVEN * fair):
            break
        half = len(largest) // 2
        place = groups.index(largest)
        groups[place : place + 1] = [largest[:half], largest[half:]]
    parts: list[list[list[Cell]]] = [[] for _ in range(min(jobs, len(groups)))]
    for group in sorted(groups, key=_total, reverse=True):
        min(parts, key=lambda part: sum(map(_total, part))).append(group)
    order = {cell.folder: place for place, cell in enumerate(cells)}
    flat = [sorted((cell for group in part for cell in group), key=lambda c: order[c.folder]) for part in parts]
    return sorted(flat, key=lambda part: order[part[0].folder])


def cost(cell: Cell) -> float:
    """Return roughly how much work a cell is, next to others: its examples times the tokens of their contexts."""
    lengths = list(cell.task.context_lengths()) if cell.task is not None else []
    context = sum(lengths) / len(lengths) if lengths else cell.checkpoint.config.max_positions
    return float((cell.settings.examples or EXAMPLES) * context)


def _total(group: Sequence[Cell]) -> float:
    return sum(map(cost, group))
