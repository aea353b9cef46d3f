"""Recall of a selection against the per-step oracle, over the denoising steps of a block.

Recall is a plain mean over the layers that select, which are those recorded; every example weighs the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.contexts import in_order
from analysis.figures.style import legend_below, outer_labels, panels, save, styled
from analysis.frame import Results
from analysis.ordering import budget_order
from analysis.statistics import bootstrap_interval


def recall_rows(results: Results) -> pd.DataFrame:
    """Recall rows with the labels of their cell, and whether its method selects once a block, in step 1."""
    if results.recall.empty:
        return results.recall
    cells = results.cells[results.cells.status == "done"]
    cells = cells.assign(selects_once=[_selects_once(record.config.get("method")) for record in cells.record])
    columns = ["model", "task", "decoding", "question", "method", "budget", "budget_unit", "budget_label"]
    columns.append("selects_once")
    return results.recall.join(cells[columns], on="cell", how="inner")


def _selects_once(method: Any) -> bool:
    """MAGE without refresh selects in step 1 of a block and never again."""
    options = method if isinstance(method, dict) else {}
    return options.get("name") == "mage" and options.get("select_step") == 1 and options.get("refresh_every") == 0


@styled
def recall_by_step(rows: pd.DataFrame, folder: Path, name: str) -> list[Path]:
    """One panel a budget: a thin line a layer, and the mean of the layers with its interval over examples."""
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator

    if rows.empty:
        return []
    budgets = budget_order(rows)
    layers = sorted(rows.layer.unique())
    colors = colormaps["viridis"](np.linspace(0.0, 0.9, len(layers)))
    figure, axes = panels(len(budgets))
    for axis, budget in zip(axes, budgets, strict=True):
        here = rows[rows.budget_label == budget]
        for layer, color in zip(layers, colors, strict=True):
            line = 100 * here[here.layer == layer].groupby("step").recall.mean()
            axis.plot(line.index, line, color=color, linewidth=0.9, label=f"layer {layer}")
        mean = step_means(here)
        axis.fill_between(mean.index, 100 * mean.low, 100 * mean.high, color="black", alpha=0.15, linewidth=0)
        axis.plot(mean.index, 100 * mean["mean"], color="black", marker="o", markersize=3, label="mean of layers")
        lowest = 100 * float(here.groupby(["step", "layer"]).recall.mean().min())
        axis.set_ylim(50 if lowest > 55 else 0, 101)
        axis.set_title(f"budget {budget}" + (" tokens" if "%" not in budget else " of the prefix"))
        axis.set_xlabel("denoising step")
        axis.set_ylabel("recall of the oracle's set (%)")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    outer_labels(axes)
    legend_below(figure, axes)
    return [save(figure, folder, name)]


def step_means(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean recall by step over all recorded layers: see `means_by_step`."""
    return means_by_step(rows.groupby(["step", "cell", "id"]).recall.mean(), rows)


def means_by_step(answers: pd.Series, rows: pd.DataFrame) -> pd.DataFrame:
    """Means by step of what each answer has, every example weighing the same: columns mean, low, high.

    `answers` is indexed by step, cell and id; `rows` name the contexts of the examples.
    """
    examples = answers.groupby(["step", "id"]).mean()  # seeds of fixed data bring no new examples
    contexts = contexts_told(rows)
    found = {
        step: bootstrap_interval(group.to_numpy(), in_order(group.index.get_level_values("id"), contexts))
        for step, group in examples.groupby("step")
    }
    columns = {"mean": [i.mean for i in found.values()], "low": [i.low for i in found.values()]}
    return pd.DataFrame({**columns, "high": [i.high for i in found.values()]}, index=list(found))


def contexts_told(rows: pd.DataFrame) -> dict[str, str]:
    """The context of each example that shares one, by id."""
    named = rows[["id", "context"]].dropna().drop_duplicates()
    return dict(zip(named.id, named.context, strict=True))
