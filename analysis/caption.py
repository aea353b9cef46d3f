"""Sentences that captions share."""

from __future__ import annotations

import pandas as pd

from analysis.marks import warnings


def decoding_of(points: pd.DataFrame) -> str:
    """The decoding of points that share it, with its options."""
    name, options = points.decoding.iloc[0], points.decoding_options.iloc[0]
    return f"{name} ({options})" if options else str(name)


def where(question: str) -> str:
    """Where the question of a task stands, in words."""
    places = {"block": "in the first generated block", "text": "where the prompt has it"}
    return places.get(question, f"in the {question}")


def truncation(points: pd.DataFrame) -> str:
    """Says that prompts were cut to what the model can hold: their answer may have stood in what was cut."""
    cut = points[points.truncated_examples > 0] if "truncated_examples" in points else points.iloc[:0]
    if cut.empty:
        return ""
    most = max((row for _, row in cut.iterrows()), key=lambda row: float(row.truncated_examples / row.n))
    return (
        " Truncated: prompts longer than the model's positions, or than the task allows, lost the middle of their "
        f"context in {len(cut)} of {len(points)} cells, "
        f"in up to {most.truncated_examples:.0f} of {most.n:.0f} examples."
    )


def closing(points: pd.DataFrame) -> str:
    """What must not be missed about the cells of a table: truncated prompts, sample data, untrained positions."""
    return truncation(points) + "".join(f" {sentence}" for sentence in warnings(points))
