"""The needle heatmap: accuracy by context length and needle depth, one panel a method, at one budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.comparison import BASELINE, POINT
from analysis.figures.style import outer_labels, panels, save, styled
from analysis.frame import Results
from analysis.measure import Measure, measure_name, measure_of
from analysis.ordering import method_order

CROWDED = 12
"""Lengths or depths beyond which a panel has no numbers."""
LABELS = 6
"""Labels that fit the axis of lengths; twice as many fit that of depths."""

THOUSANDS = 10_000
"""The length from which on an axis counts in thousands."""


def grid_examples(results: Results) -> pd.DataFrame:
    """Answered examples whose labels hold a length and a depth, with the labels of their cell.

    Examples that ask for several needles are left out: one of them stands at the depth, and exact match needs all.
    """
    examples = results.examples
    numeric = [
        labels.get("asked", 1) == 1 and all(isinstance(labels.get(f), int | float) for f in ("length", "depth"))
        for labels in examples["labels"]
    ]
    rows = examples[np.array(numeric, dtype=bool)]
    places = {field: [float(labels[field]) for labels in rows["labels"]] for field in ("length", "depth")}
    return rows.assign(**places).join(results.cells[POINT], on="cell")


@styled
def needle_heatmap(rows: pd.DataFrame, budget: str, chosen: Measure | None, folder: Path, name: str) -> list[Path]:
    """Draws `rows` (one setting of `grid_examples`, with its `metric`) at `budget` beside dense.

    Nothing when there is but one depth.
    """
    here = rows[rows.budget_label.isin([budget]) | ((rows.budget_label == "") & (rows.method == BASELINE))]
    if here.depth.nunique() < 2 or (here.method == BASELINE).all():
        return []
    lengths, depths = sorted(here.length.unique()), sorted(here.depth.unique())
    methods = method_order(here.method)
    crowded, score = max(len(lengths), len(depths)) > CROWDED, measure_of(here, chosen)
    figure, axes = panels(len(methods), height=0.6 + 0.18 * min(len(depths), CROWDED))
    image = None
    for axis, method in zip(axes, methods, strict=True):
        own = here[here.method == method]
        table = own.pivot_table(index="depth", columns="length", values=score, aggfunc="mean")
        grid = 100 * table.reindex(index=depths, columns=lengths).to_numpy(dtype=np.float64)
        axis.set_facecolor("#dddddd")  # a place without an example
        image = axis.imshow(grid, vmin=0, vmax=100, cmap="cividis", aspect="auto")
        for (row, column), value in np.ndenumerate(grid if not crowded else grid[:0]):
            text = "—" if np.isnan(value) else f"{value:.0f}"
            axis.text(column, row, text, ha="center", va="center", fontsize=6, color="black" if value > 55 else "white")
        across, down = -(-len(lengths) // LABELS), -(-len(depths) // (2 * LABELS))
        axis.set_xticks(range(0, len(lengths), across), labels=tokens(lengths[::across]))
        axis.set_yticks(range(0, len(depths), down), labels=[f"{100 * depth:.0f}" for depth in depths[::down]])
        axis.grid(False)
        axis.set_title(method if method == BASELINE else f"{method}, budget {budget}")
        axis.set_xlabel("context length (tokens)")
        axis.set_ylabel("needle depth (%)")
    outer_labels(axes)
    if image is not None:
        figure.colorbar(image, ax=axes, label=f"{measure_name(here, chosen)} (%)", shrink=0.9, aspect=30)
    return [save(figure, folder, name)]


def tokens(lengths: Sequence[float]) -> list[str]:
    """Lengths as an axis names them, all in one style: in full, or in thousands where one has five digits."""
    if max(lengths) < THOUSANDS:
        return [f"{length:.0f}" for length in lengths]
    return [f"{length / 1000:.1f}".removesuffix(".0") + "k" for length in lengths]
