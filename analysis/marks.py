"""What a reader must not miss about a cell, put into the name of its task: every table and figure then shows it."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from analysis.categories import SUITES
from runners.record import CellRecord

SAMPLE = "sample"
"""The source of a cell that answered the few examples shipped with the project."""
RANDOM = "random weights"


def mark_tasks(cells: pd.DataFrame) -> pd.DataFrame:
    """Adds the marks of a cell to its task: `longbench/qasper` becomes `longbench/qasper (sample; YaRN x4)`.

    Fills the columns `suite` and `member` with the two parts of a task's label, and `variant` with what `name_variants`
    told its cells apart by. A task of its own has no suite, but for a benchmark that is one task.
    """
    named = cells.copy()
    labels = [record.labels.task for record in cells.record]
    parts = [label.partition("/") for label in labels]
    named["suite"] = [suite if member or suite in SUITES else "" for suite, _, member in parts]
    named["member"] = [member or label for label, (_, _, member) in zip(labels, parts, strict=True)]
    variants = [task[len(label) :].strip(" ()") for task, label in zip(cells.task, labels, strict=True)]
    named["variant"] = variants
    named["random"] = [_has_random_weights(record) for record in cells.record]
    named["marks"] = [marks_of(row) for _, row in named.iterrows()]
    named["task"] = [marked(label, (v, *m)) for label, v, m in zip(labels, variants, named.marks, strict=True)]
    return named


def _has_random_weights(record: CellRecord) -> bool:
    model = record.config.get("model")
    return isinstance(model, dict) and model.get("weights") == "random"


def marks_of(cell: pd.Series) -> tuple[str, ...]:
    """The marks of a cell, by its columns `source`, `random` and `extended`."""
    found = (SAMPLE if cell.source == SAMPLE else "", RANDOM if cell.random else "", cell.extended)
    return tuple(mark for mark in found if mark)


def marked(label: str, marks: Iterable[str]) -> str:
    """`label` with those of `marks` that are not empty in brackets."""
    told = "; ".join(filter(None, marks))
    return f"{label} ({told})" if told else label


def warnings(cells: pd.DataFrame) -> list[str]:
    """What the marks of `cells` mean, one sentence each."""
    lines: list[str] = []
    if (cells.source == SAMPLE).any():
        lines.append("Sample: the few examples shipped with the project. They show that it runs and are no benchmark.")
    if cells.random.any():
        lines.append("Random weights: the scores mean nothing.")
    extended = sorted(set(cells.extended) - {""})
    if extended:
        lines.append(f"{', '.join(extended)}: the model reads more positions than it was trained with.")
    return lines
