"""A part of the report: lines, figures and tables under one title."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from analysis.table import Table


@dataclass
class Section:
    """A part of the report. Figures are paths of PNG files with their captions.

    `details` are for those who look for one task or one cell: the page shows them unfolded on a click, report.md names
    their files.
    """

    title: str
    lines: list[str] = field(default_factory=list)
    figures: list[tuple[Path, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    details: bool = False


def slug(*parts: str) -> str:
    """A file name of labels."""
    return "-".join(re.sub(r"[^A-Za-z0-9._]+", "_", part.replace("%", "pct")).strip("_") for part in parts)


def brief(caption: str) -> str:
    """The first sentence of a caption: in place of a figure, below which the whole caption stands."""
    return re.split(r"(?<=\.) (?=[A-Z])", caption, maxsplit=1)[0]


def captioned(paths: list[Path], caption: str) -> list[tuple[Path, str]]:
    """Each figure with the same caption."""
    return [(path, caption) for path in paths]
