"""One look for all figures: size, fonts, and one colour, marker and dash for each method, the same in every figure.

Variants of a method keep its colour and its marker.

The first colours are the palette of Okabe and Ito, told apart with every common kind of colour blindness; the methods
that came later have darker ones, and each has a marker of its own.
Figures are made without pyplot: nothing global is left behind and no display is needed.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from analysis.ordering import METHODS, base_method, method_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
R = TypeVar("R")
COLUMNS = 3
OFFSET = 0.07
"""Distance in octaves between two methods at one budget."""
SPREAD = 0.6
"""Most octaves that the methods at one budget take up together."""
NARROWEST = 3.0
"""Octaves that an axis spans at least: on fewer, what stands beside a lone tick would seem far from it."""
MARGIN = 0.45
"""Octaves beyond the first and the last tick, at least."""
COLUMN = 3.4
"""Width of a paper's column in inches."""
PAGE = 7.0
"""Width of a paper's text in inches."""
LEGEND_ROWS = 2
"""Rows of a legend that every figure has room for."""
LEGEND_ROW = 0.15
"""Height of a further one in inches."""
TITLE = 36
"""Characters of a title that fit a panel."""
RC: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "legend.columnspacing": 1.2,
    "legend.handletextpad": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Look:
    """How a method is drawn. `variant` counts those of one method in a figure; number 0 looks as the method does."""

    color: str
    marker: str
    dash: Any
    width: float = 1.3
    variant: int = 0

    @property
    def marks(self) -> dict[str, Any]:
        """The markers of its line, as matplotlib names their settings: a variant fills another part of them."""
        size = 9 if self.marker == "*" else 4.5
        fill = FILLS[self.variant % len(FILLS)]
        return {"marker": self.marker, "markersize": size, "fillstyle": fill, "markerfacecoloralt": "white"}


SOLID: Any = "solid"
FILLS: Any = ("full", "left", "top", "right", "bottom")
VARIANTS: Any = ((0, (1, 1.2)), (0, (7, 1.5, 1, 1.5)), (0, (7, 1.5, 1, 1.5, 1, 1.5)))
"""Dashes of variants; as many as go with each of FILLS in turn."""
LOOKS = {
    "dense": Look("#000000", "", (0, (5, 2))),
    "oracle": Look("#CC79A7", "*", SOLID, width=2.4),  # a broad line, seen under the one that reaches it
    "mage": Look("#D55E00", "o", SOLID),
    "mage_v1": Look("#8C510A", "P", (0, (5, 1))),
    "quest": Look("#0072B2", "s", SOLID),
    "tidal_decode": Look("#5E3C99", "p", SOLID),
    "sparse_d": Look("#01665E", "<", (0, (5, 1, 1, 1))),
    "flash_block": Look("#B8860B", "h", (0, (2, 1))),
    "snapkv_query": Look("#56B4E9", "v", (0, (3, 1))),
    "snapkv": Look("#009E73", "^", SOLID),
    "streaming_llm": Look("#E69F00", "D", (0, (4, 1, 1, 1))),
    "random": Look("#7F7F7F", "X", (0, (1, 1))),
}
DASHES: Any = ((0, (2, 1)), (0, (5, 1, 1, 1, 1, 1)))
OTHERS = [  # five colours with five markers, each pair once
    Look(color, ">h8dH"[(place + turn) % 5], DASHES[turn % 2])
    for turn in range(5)
    for place, color in enumerate(("#B2182B", "#35978F", "#C51B7D", "#7FBC41", "#4393C3"))
]


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """The look of each method; those that have none of their own take the spare ones by name.

    Variants of a method differ in the fill of its marker and in its dash.
    """
    ordered = method_order(methods)
    bases = list(dict.fromkeys(map(base_method, ordered)))
    spare = [m for m in bases if m not in METHODS]
    found: dict[str, Look] = {}
    for base in bases:
        own = LOOKS[base] if base in LOOKS else OTHERS[spare.index(base) % len(OTHERS)]
        for number, method in enumerate(m for m in ordered if base_method(m) == base):
            dash = VARIANTS[(number - 1) % len(VARIANTS)] if number else own.dash
            found[method] = replace(own, dash=dash, variant=number)
    return found


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Runs a drawing function with the settings of RC, and leaves those of the process as they are."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        from matplotlib import rc_context

        with rc_context(RC):
            return draw(*args, **kwargs)

    return inside


def panels(count: int, height: float = 1.9) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels: one at column width, several in up to three columns at page width."""
    from matplotlib.figure import Figure

    columns = min(count, COLUMNS)
    rows = math.ceil(count / columns)
    width, first = (COLUMN, 0.4) if columns == 1 else (PAGE, 0.0)
    figure = Figure(figsize=(width, (height + first) * rows + 0.4), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes[:count]


def outer_labels(axes: list[Axes]) -> None:
    """Takes away the axis labels that repeat those of the panel to the left or below."""
    for index, axis in enumerate(axes):
        if index % COLUMNS:
            axis.set_ylabel("")
        if index + COLUMNS < len(axes):
            axis.set_xlabel("")


def short(tokens: int) -> str:
    """A number of tokens as an axis has room for it: `8K` for 8192."""
    return f"{tokens // 1024}K" if tokens % 1024 == 0 else str(tokens)


def title(task: str, tasks: Iterable[str]) -> str:
    """The name of a panel: of tasks of one benchmark their own names, on two lines where it is long."""
    suites = {name.partition("/")[0] for name in tasks}
    shown = task.partition("/")[2] if len(suites) == 1 and "/" in task else task
    return "\n".join(textwrap.wrap(shown, TITLE, break_long_words=False))


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Writes PNG and PDF without dates, so that the same records give the same files. Returns the path of the PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
    figure.set_layout_engine("none")  # it is laid out: once is enough
    figure.savefig(folder / f"{name}.png", dpi=200, metadata={"Software": None})
    return folder / f"{name}.png"


def legend_below(figure: Figure, axes: list[Axes]) -> None:
    """One legend for all panels, under them, each line once. The figure grows by the rows that its height has no room
    for."""
    entries: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    room = 48 if figure.get_figwidth() <= COLUMN else 120  # characters
    widths = [len(label) + 6 for label in entries]
    columns = len(entries) if sum(widths) <= room else max(1, room // max(widths))
    beyond = max(0, math.ceil(len(entries) / columns) - LEGEND_ROWS)
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * beyond)
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns)


def budget_axis(axis: Axes, budgets: Iterable[float], unit: str) -> None:
    """A log2 axis with the budgets as its ticks."""
    ticks = sorted(set(budgets))
    octaves(axis, ticks, [f"{b:g}" if unit == "tokens" else f"{100 * b:g}" for b in ticks])
    axis.set_xlabel("KV budget (tokens)" if unit == "tokens" else "KV budget (% of the prefix)")


def octaves(axis: Axes, ticks: Sequence[float], labels: Sequence[str]) -> None:
    """A log2 axis with these rising ticks, wide enough that `shift` is small beside it."""
    margin = max(MARGIN, (NARROWEST - math.log2(ticks[-1] / ticks[0])) / 2)
    axis.set_xscale("log", base=2)
    axis.set_xticks(ticks, labels=labels)
    axis.minorticks_off()
    axis.set_xlim(ticks[0] / 2**margin, ticks[-1] * 2**margin)


def shift(rank: int, count: int) -> float:
    """Factor on the budget that sets the methods at one budget side by side, so that equal values stay visible."""
    return float(2 ** (min(OFFSET, SPREAD / max(1, count - 1)) * (rank - (count - 1) / 2)))


def draw_line(axis: Axes, x: Iterable[float], y: Iterable[float], method: str, look: Look) -> None:
    """A line whose markers keep a white rim, so that lines under it stay visible. It breaks where a value is NaN."""
    axis.plot(
        list(x),
        list(y),
        color=look.color,
        linestyle=look.dash,
        linewidth=look.width,
        label=method,
        markeredgecolor=look.color if look.variant else "white",  # a half-full marker needs its outline
        markeredgewidth=0.5,
        clip_on=False,
        zorder=3,
        **look.marks,
    )
