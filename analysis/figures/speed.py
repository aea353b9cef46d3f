"""Speed-up against the length of the prefix, beside what the hardware allows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.figures.style import (
    SOLID,
    Look,
    legend_below,
    looks,
    octaves,
    outer_labels,
    panels,
    save,
    shift,
    short,
    styled,
    title,
)
from analysis.ordering import base_method

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BASELINE = "dense"
GREY = "#777777"
HEADROOM = 1.08
HEIGHTS = ("speedup", "speedup_high", "bound_speedup", "speedup_over_best")


@styled
def speedup_by_context(points: pd.DataFrame, folder: Path, name: str) -> list[Path]:
    """One panel for each model, decoding, batch and budget, all on one scale: a line a method with intervals, its bound
    broken, its speed-up over the best dense attention hollow and a place to the right. Cells that share a point are all
    drawn. Nothing where no method but dense was timed."""
    own = points[(points.status == "done") & (points.method.map(base_method) != BASELINE)]
    if own.empty:
        return []
    keys = [key for key in ("model", "decoding", "batch", "budget_label") if own[key].nunique() > 1]
    groups = dict(iter(own.groupby(keys, sort=False))) if keys else {(): own}
    methods = looks(own.method)
    contexts = sorted(set(own.context))
    over = "speedup_over_best" in own and own.speedup_over_best.notna().any()
    each = 2 if over else 1  # places side by side
    figure, axes = panels(len(groups))
    for axis, (key, here) in zip(axes, groups.items(), strict=True):
        for rank, (method, look) in enumerate(methods.items()):
            cells = here[here.method == method]
            for _, line in cells.groupby(cells.groupby("context").cumcount()):
                line = line.set_index("context").reindex(contexts)
                places = [line.index * shift(each * rank + place, each * len(methods)) for place in range(each)]
                _draw(axis, line, places, method, look)
        axis.axhline(1.0, color="#555555", linewidth=0.8, linestyle=":")
        octaves(axis, contexts, [short(context) for context in contexts])
        axis.set_ylim(0, HEADROOM * max(1.0, np.nanmax(own.reindex(columns=HEIGHTS).to_numpy(dtype=np.float64))))
        axis.set_xlabel("prefix (tokens)")
        axis.set_ylabel("speed-up of a block")
        if keys:
            axis.set_title(title(_panel(keys, key), []))
    axes[-1].errorbar([], [], fmt="--", marker="_", color=GREY, linewidth=1, label="bound")
    if over:
        axes[-1].errorbar([], [], fmt="o", color=GREY, markersize=4.5, markerfacecolor="white", label="over best dense")
    outer_labels(axes)
    legend_below(figure, axes)
    return [save(figure, folder, name)]


def _draw(axis: Axes, line: pd.DataFrame, places: list[pd.Index], method: str, look: Look) -> None:
    """`places` of the line, and of what is over the best dense attention where there is any."""
    x, color = places[0], look.color
    axis.errorbar(
        x,
        line.speedup,
        yerr=_errors(line),
        color=color,
        linestyle=look.dash if look.variant else SOLID,  # broken are bounds
        linewidth=look.width,
        capsize=2,
        label=method,
        zorder=3,
        **look.marks,
    )
    axis.plot(x, line.bound_speedup, "--", marker="_", markersize=8, color=color, linewidth=1)
    if len(places) > 1:
        hollow = {**look.marks, "fillstyle": "full", "markerfacecolor": "white"}
        axis.plot(places[1], line.speedup_over_best, color=color, linestyle="none", zorder=4, **hollow)


def _errors(line: pd.DataFrame) -> np.ndarray | None:
    """Distances to the ends of the intervals; None where no cell has one."""
    if "speedup_low" not in line or line.speedup_low.isna().all():
        return None
    distances = [line.speedup - line.speedup_low, line.speedup_high - line.speedup]
    return np.vstack([np.nan_to_num(distance.to_numpy(dtype=np.float64)) for distance in distances])


def _panel(keys: list[str], values: object) -> str:
    found: Iterable[object] = values if isinstance(values, tuple) else (values,)
    words = {"batch": "batch {}", "budget_label": "budget {}"}
    return ", ".join(words.get(key, "{}").format(value) for key, value in zip(keys, found, strict=True))
