"""The part of the report that tells how fast methods are."""

from __future__ import annotations

from pathlib import Path

from analysis.figures.speed import speedup_by_context
from analysis.frame import Results
from analysis.section import Section, captioned
from analysis.speed_table import extremes, speed_points, speed_tables


def speed_sections(results: Results, folder: Path) -> list[Section]:
    """Blocks with their figure, and single steps; nothing without a cell of runner=latency."""
    points = speed_points(results)
    if points.empty:
        return []
    blocks, steps = speed_tables(points)
    figures = speedup_by_context(points, folder, "speed-by-context")
    caption = (
        "Speed-up of a block over dense against the length of the prefix: median of ratios paired by round, with its "
        f"95 % interval{extremes(points)}. Broken lines: what bytes and operations allow at the bandwidth and matrix "
        "rate measured beside each cell. Hollow: the speed-up over a dense engine with the fastest attention found. "
        "Markers at one length stand slightly apart."
    )
    return [
        Section("Speed", figures=captioned(figures, caption), tables=[blocks]),
        Section("Speed of single forwards", tables=[steps]),
    ]
