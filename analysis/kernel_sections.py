"""The part of the report that tells how near kernels come to their roofs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.escaping import visible
from analysis.figures.kernels import LAST, TARGET, roof_shares
from analysis.frame import Results
from analysis.kernel_frame import failing, kernel_points
from analysis.kernel_table import LONGEST, kernel_table
from analysis.section import Section, captioned


def kernel_sections(results: Results, folder: Path) -> list[Section]:
    """Kernels with their figure; nothing without a record of them, and no table where none could be timed."""
    points = kernel_points(results.kernels)
    section = Section("Speed of kernels", lines=_troubles(results, points))
    if len(points):
        shapes = points[["context", "batch"]].drop_duplicates()
        one = shapes.iloc[0]
        of = f" Context {one.context}, batch {one.batch}." if len(shapes) == 1 else ""
        hollow = (
            ""
            if points[points.share.notna()].ours.all()
            else " Hollow: implementations of others, measured beside ours."
        )
        cut = (
            f" Shares beyond {LAST:g} % are cut, with their values beside them."
            if (points.share > LAST / 100).any()
            else ""
        )
        caption = (
            "Share of the nearer roof that single kernels reach, from cold caches: the least time that bytes and "
            "operations allow at the rates measured in the same run, over the median time. Broken line: "
            f"{TARGET:g} %, the target of this project.{hollow}{cut}{of} The conditions stand with the table."
        )
        section.figures = captioned(roof_shares(points, folder, "kernels-of-roof"), caption)
        section.tables = [kernel_table(points)]
    return [section] if section.lines or section.tables else []


def _troubles(results: Results, points: pd.DataFrame) -> list[str]:
    """What must not be missed: kernels of ours that failed, those that computed something else, what had no memory."""
    lines = []
    for _, point in failing(points).iterrows():
        settings = [text for text in point.setting.split(", ") if text != point.implementation]
        place = ", ".join(filter(None, [*settings, f"context {point.context}, batch {point.batch}"]))
        if point.failure:
            lines.append(f"Failed: {point.kernel} ({point.implementation}; {place}): {visible(point.failure, LONGEST)}")
        else:
            lines.append(
                f"Wrong: {point.kernel} ({point.implementation}; {place}) differs from its float32 reference by "
                f"{point.relative_error:.1e}."
            )
    for path, record in results.kernels.items():
        if record.too_large:
            shapes = ", ".join(visible(shape, LONGEST) for shape in record.too_large)
            lines.append(f"Out of memory, so not timed (context x batch): {shapes} ({path.name}).")
    return lines
