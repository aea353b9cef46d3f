"""What a selection holds of the evidence, the tokens of the context that the answer repeats, step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from analysis.figures.recall import means_by_step
from analysis.figures.style import legend_below, panels, save, styled
from analysis.ordering import budget_order

ANSWER = ["cell", "id"]
PARTS = ("evidence_held", "evidence_oracle")


def on_evidence(rows: pd.DataFrame) -> pd.DataFrame:
    """The recall rows of which evidence with any attention on it is told."""
    return rows if rows.empty else rows[rows.evidence_mass > 0]


def held_share(rows: pd.DataFrame, by: list[str], part: str = "evidence_held") -> pd.Series:
    """Of the attention on the evidence, the share on entries of the attended set (`evidence_oracle`: the oracle's).

    Over the heads, layers, blocks (and steps) that fall together `by` these columns: those that attend more to the
    evidence weigh more.
    """
    sums = rows.groupby(by)[[part, "evidence_mass"]].sum()
    return sums[part] / sums.evidence_mass


def evidence_means(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """By step, the share that the attended set holds and the share that the oracle's does: see `means_by_step`."""
    held, best = (means_by_step(held_share(rows, ["step", *ANSWER], part), rows) for part in PARTS)
    return held, best


def common_steps(rows: pd.DataFrame) -> list[int]:
    """The steps that at least half of the answers take: later ones are those of a few long blocks."""
    answers = rows.drop_duplicates(["step", *ANSWER]).groupby("step").size()
    return [int(step) for step in answers.index[answers >= answers.max() / 2]]


@styled
def evidence_by_step(rows: pd.DataFrame, folder: Path, name: str) -> list[Path]:
    """A line a budget with its interval over examples; dashed, each step's exact top-k."""
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator

    rows = on_evidence(rows)
    if rows.empty:
        return []
    budgets = budget_order(rows)
    figure, (axis,) = panels(1)
    for budget, color in zip(budgets, colormaps["viridis"](np.linspace(0.0, 0.85, len(budgets))), strict=True):
        here = rows[rows.budget_label == budget]
        held, best = (means.loc[common_steps(here)] for means in evidence_means(here))
        axis.fill_between(held.index, 100 * held.low, 100 * held.high, color=color, alpha=0.15, linewidth=0)
        label = f"budget {budget}" + (" tokens" if "%" not in budget else " of the prefix")
        axis.plot(held.index, 100 * held["mean"], color=color, marker="o", markersize=3, label=label)
        axis.plot(best.index, 100 * best["mean"], color=color, linestyle="dashed", linewidth=0.9)
    axis.plot([], [], color="gray", linestyle="dashed", linewidth=0.9, label="each step's exact top-k")
    low, _ = axis.get_ylim()
    axis.set_ylim(50 if low > 55 else 0, 101)
    axis.set_xlabel("denoising step")
    axis.set_ylabel("attention on evidence held (%)")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure, [axis])
    return [save(figure, folder, name)]
