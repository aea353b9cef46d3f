"""How near each kernel comes to the nearer of its device's roofs, shape by shape."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.figures.style import COLUMNS, Look, legend_below, panels, save, short, styled, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TARGET = 80.0
"""Percent of the nearer roof that a kernel of this project is to reach."""
LAST = 120.0
"""Percent at which an axis ends at the latest: what lies beyond is drawn at its end, with its value beside it."""
APART = 5.0
"""Percent between the marks of one row that lie beyond."""
ROW = 0.15
"""Height of a row in inches."""
STEMS: dict[str, Any] = {"bandwidth": "solid", "matrix": (0, (1, 1.2))}
NAMES = {"bandwidth": "bandwidth", "matrix": "matrix rate"}
GREY = "#9a9a9a"
OURS = "#D55E00"
OTHERS = {  # the look of each rival; ours is a full circle
    "torch SDPA": Look("#0072B2", "s", ""),
    "torch SDPA, causal": Look("#0072B2", "D", ""),
    "flash-attn": Look("#009E73", "^", ""),
    "FlashInfer": Look("#CC79A7", "v", ""),
}


@styled
def roof_shares(points: pd.DataFrame, folder: Path, name: str) -> list[Path]:
    """One panel a setting, one row a kernel and shape: a stem to the share of ours, markers for the others. Rows are
    grouped by kernel, the first one on top. Shares beyond LAST are told in numbers. Nothing where nothing was timed."""
    from matplotlib.ticker import MaxNLocator

    if points.share.isna().all():
        return []
    groups = dict(iter(points.groupby("setting", sort=False)))
    rows = {setting: _rows(here) for setting, here in groups.items()}
    figure, axes = panels(len(groups), height=ROW * max(map(len, rows.values())) + 0.55)
    ours = f"{' or '.join(sorted(set(points[points.ours].implementation)))} (this project)"
    right = min(LAST, 1.04 * max(100.0, 100 * points.share.max()))
    for index, (axis, (setting, here)) in enumerate(zip(axes, groups.items(), strict=True)):
        _draw(axis, here, rows[setting], ours)
        if index % COLUMNS and rows[setting] == list(rows.values())[index - 1]:
            axis.tick_params(axis="y", labelleft=False)  # the panel to the left names the same rows
        axis.set_xlim(0, right)
        axis.xaxis.set_major_locator(MaxNLocator(6))
        axis.set_xlabel("of the nearer roof (%)")
        roofs = here[["roof_bytes_per_second", "roof_flops_per_second"]].iloc[0]
        measured = f"roofs: {roofs.iloc[0] / 1e9:.4g} GB/s, {roofs.iloc[1] / 1e12:.3g} TFLOP/s"
        axis.set_title("\n".join(filter(None, [title(str(setting), []), measured])))
    stems = points[points.ours & points.share.notna()].roof
    for roof in [roof for roof in STEMS if (stems == roof).any()]:
        axes[-1].plot([], [], color=GREY, linestyle=STEMS[roof], linewidth=1.2, label=f"nearer roof: {NAMES[roof]}")
    legend_below(figure, axes)
    return [save(figure, folder, name)]


def _rows(points: pd.DataFrame) -> list[tuple[str, int, int]]:
    """Kernel, context and batch of each row from top to bottom. Where kernels have several shapes a row of their name,
    without a shape, stands above these."""
    shapes = list(dict.fromkeys(zip(points.kernel, points.context, points.batch)))
    if len(shapes) == points.kernel.nunique():
        return shapes
    found: list[tuple[str, int, int]] = []
    for kernel in dict.fromkeys(points.kernel):
        found += [(kernel, 0, 0), *(shape for shape in shapes if shape[0] == kernel)]
    return found


def _draw(axis: Axes, points: pd.DataFrame, rows: list[tuple[str, int, int]], ours: str) -> None:
    places = {row: place for place, row in enumerate(rows)}
    headed = any(context == 0 for _, context, _ in rows)
    for number, kernel in enumerate(dict.fromkeys(points.kernel)):
        own = [places[row] for row in rows if row[0] == kernel]
        if number % 2 == 0:
            axis.axhspan(own[0] - 0.5, own[-1] + 0.5, color="#f4f4f4", linewidth=0, zorder=0)
    beyond: dict[int, list[str]] = {}
    for _, point in points.iterrows():
        y, x = places[point.kernel, point.context, point.batch], 100 * point.share
        if x > LAST:
            values = beyond.setdefault(y, [])
            values.append(f"{x:.0f} %")
            x = LAST - APART * (len(values) - 1)
        if point.ours and (point.failure or point.wrong):
            left, side = (1, "left") if point.failure else (x + 3, "left") if x <= 100 else (x - 3, "right")
            word, ground = "failed" if point.failure else "wrong", {"color": "white", "pad": 0.6}
            axis.text(left, y, word, color="#B2182B", ha=side, va="center", fontsize=6, bbox=ground, zorder=5)
        if pd.isna(x):
            continue
        if point.ours:
            axis.plot([0, x], [y, y], color=GREY, linestyle=STEMS[point.roof], linewidth=1.2, zorder=2)
            axis.plot(x, y, "o", color=OURS, markersize=4.5, label=ours, zorder=4, clip_on=False)
        else:
            look = OTHERS[point.implementation]
            axis.plot(
                x,
                y,
                look.marker,
                color=look.color,
                markersize=4.5,
                markerfacecolor="none",
                label=point.implementation,
                zorder=3,
                clip_on=False,
            )
    for y, values in beyond.items():
        axis.text(LAST + 3, y, ", ".join(values), va="center", fontsize=6)
    axis.axvline(TARGET, color="#333333", linewidth=0.9, linestyle=(0, (4, 2)), label=f"{TARGET:g} %: target", zorder=1)
    axis.set_yticks(range(len(rows)), labels=[_label(row, headed, points) for row in rows])
    for text, (_, context, _) in zip(axis.get_yticklabels(), rows, strict=True):
        text.set_fontweight("bold" if context == 0 else "normal")
    axis.tick_params(axis="y", length=0)
    axis.grid(visible=False, axis="y")
    axis.set_ylim(len(rows) - 0.5, -0.5)


def _label(row: tuple[str, int, int], headed: bool, points: pd.DataFrame) -> str:
    kernel, context, batch = row
    if not headed or context == 0:
        return kernel
    return short(context) + (f", batch {batch}" if points.batch.nunique() > 1 else "")
