"""Speed-up against the length of the prefix, beside what the hardware allows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.figures.style import Look, legend_below, looks, outer_labels, panels, save, shift, short, styled, title
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
    broken, its speed-up over the best dense attention hollow. Cells that share a point are all drawn. Nothing where no
    method but dense was timed."""
    from matplotlib.ticker import NullLocator

    own = points[(points.status == "done") & (points.method.map(base_method) != BASELINE)]
    if own.empty:
        return []
    keys = [key for key in ("model", "decoding", "batch", "budget_label") if own[key].nunique() > 1]
    groups = dict(iter(own.groupby(keys, sort=False))) if keys else {(): own}
    methods = looks(own.method)
    contexts = sorted(set(own.context))
    margin = 2**0.15 * shift(len(methods) - 1, len(methods))
    figure, axes = panels(len(groups))
    for axis, (key, here) in zip(axes, groups.items(), strict=True):
        for rank, (method, look) in enumerate(methods.items()):
            cells = here[here.method == method]
            for _, line in cells.groupby(cells.groupby("context").cumcount()):
                line = line.set_index("context").reindex(contexts)
                _draw(axis, line, line.index * shift(rank, len(methods)), method, look)
        axis.axhline(1.0, color="#555555", linewidth=0.8, linestyle=":")
        axis.set_xscale("log", base=2)
        axis.set_xticks(contexts, labels=[short(context) for context in contexts])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlim(contexts[0] / margin, contexts[-1] * margin)
        axis.set_ylim(0, HEADROOM * max(1.0, np.nanmax(own.reindex(columns=HEIGHTS).to_numpy(dtype=np.float64))))
        axis.set_xlabel("prefix (tokens)")
        axis.set_ylabel("speed-up of a block")
        if keys:
            axis.set_title(title(_panel(keys, key), []))
    axes[-1].errorbar([], [], fmt="--", marker="_", color=GREY, linewidth=1, label="bound")
    if "speedup_over_best" in own and own.speedup_over_best.notna().any():
        axes[-1].errorbar([], [], fmt="o", color=GREY, markersize=4.5, markerfacecolor="none", label="over best dense")
    outer_labels(axes)
    legend_below(figure, axes)
    return [save(figure, folder, name)]


def _draw(axis: Axes, line: pd.DataFrame, x: pd.Index, method: str, look: Look) -> None:
    color, size = look.color, 4.5
    axis.errorbar(
        x,
        line.speedup,
        yerr=_errors(line),
        color=color,
        marker=look.marker,
        markersize=size,
        linewidth=look.width,
        capsize=2,
        label=method,
        zorder=3,
    )
    axis.plot(x, line.bound_speedup, "--", marker="_", markersize=8, color=color, linewidth=1)
    if "speedup_over_best" in line:
        axis.plot(x, line.speedup_over_best, look.marker, color=color, markersize=size, markerfacecolor="none")


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
