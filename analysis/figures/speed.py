"""Speed-up against the length of the prefix, beside what the hardware allows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.figures.style import legend_below, looks, outer_labels, panels, save, shift, styled, title

BASELINE = "dense"


@styled
def speedup_by_context(points: pd.DataFrame, folder: Path, name: str) -> list[Path]:
    """One panel for each model, decoding, batch and budget: a line a method with intervals, its bound broken. Nothing
    where no method but dense was timed."""
    from matplotlib.ticker import NullLocator

    own = points[(points.status == "done") & (points.method != BASELINE)]
    if own.empty:
        return []
    keys = [key for key in ("model", "decoding", "batch", "budget_label") if own[key].nunique() > 1]
    groups = dict(iter(own.groupby(keys, sort=False))) if keys else {(): own}
    methods = looks(own.method)
    contexts = sorted(set(own.context))
    figure, axes = panels(len(groups))
    for axis, (key, here) in zip(axes, groups.items(), strict=True):
        for rank, (method, look) in enumerate(methods.items()):
            line = here[here.method == method].groupby("context").first().reindex(contexts)
            axis.errorbar(
                line.index * shift(rank, len(methods)),
                line.speedup,
                yerr=_errors(line),
                color=look.color,
                marker=look.marker,
                markersize=4.5,
                linewidth=look.width,
                capsize=2,
                label=method,
                zorder=3,
            )
            axis.plot(line.index, line.bound_speedup, "--", color=look.color, linewidth=1, label=f"{method}, bound")
        axis.axhline(1.0, color="#555555", linewidth=0.8, linestyle=":")
        axis.set_xscale("log", base=2)
        axis.set_xticks(contexts, labels=[_short(context) for context in contexts])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlim(contexts[0] / 2**0.3, contexts[-1] * 2**0.3)
        axis.set_ylim(bottom=0)
        axis.set_xlabel("prefix (tokens)")
        axis.set_ylabel("speed-up of a block")
        if keys:
            axis.set_title(title(_panel(keys, key), []))
    outer_labels(axes)
    legend_below(figure, axes)
    return [save(figure, folder, name)]


def _errors(line: pd.DataFrame) -> np.ndarray | None:
    """Distances to the ends of the intervals; None where no cell has one."""
    if "speedup_low" not in line or line.speedup_low.isna().all():
        return None
    distances = [line.speedup - line.speedup_low, line.speedup_high - line.speedup]
    return np.vstack([np.nan_to_num(distance.to_numpy(dtype=np.float64)) for distance in distances])


def _short(context: int) -> str:
    return f"{context // 1024}K" if context % 1024 == 0 else str(context)


def _panel(keys: list[str], values: object) -> str:
    found: Iterable[object] = values if isinstance(values, tuple) else (values,)
    words = {"batch": "batch {}", "budget_label": "budget {}"}
    return ", ".join(words.get(key, "{}").format(value) for key, value in zip(keys, found, strict=True))
