"""Tables in Markdown, CSV and LaTeX: accuracy by method and budget, and one row a cell with everything."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.comparison import Comparison, Key
from analysis.escaping import latex, markdown
from analysis.ordering import budget_order, method_order

HOLE = "—"
MARK = "†"
LEVEL = 0.05


@dataclass(frozen=True)
class Table:
    """A caption, the cells as text, and the same numbers unrounded for CSV."""

    name: str
    caption: str
    cells: pd.DataFrame
    numbers: pd.DataFrame

    def markdown(self) -> str:
        shown = self.cells.map(markdown).rename(columns=markdown)
        align = ["left" if self.cells[c].map(_is_prose).any() else "right" for c in self.cells.columns]
        return str(shown.to_markdown(index=False, disable_numparse=True, colalign=align))

    def latex(self) -> str:
        """A booktabs table; needs `\\usepackage{booktabs}` and `\\usepackage[T1]{fontenc}`."""
        align = ["l" if self.cells[c].map(_is_prose).any() else "r" for c in self.cells.columns]
        lines = [r"\begin{table}", rf"\caption{{{latex(self.caption)}}}", rf"\begin{{tabular}}{{{''.join(align)}}}"]
        lines += [r"\toprule", _latex_row([str(c) for c in self.cells.columns]), r"\midrule"]
        lines += [_latex_row([str(v) for v in row]) for row in self.cells.itertuples(index=False)]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.md").write_text(f"{markdown(self.caption)}\n\n{self.markdown()}\n", encoding="utf-8")
        (folder / f"{self.name}.tex").write_text(self.latex(), encoding="utf-8")
        self.numbers.to_csv(folder / f"{self.name}.csv", index=False, lineterminator="\n")


def _is_prose(cell: str) -> bool:
    return cell[:1].isalpha()


def _latex_row(cells: list[str]) -> str:
    row = " & ".join(map(latex, cells)) + r" \\"
    return "{}" + row if row[0] in "[*" else row  # after a line break these two would be read as its option


def accuracy_table(name: str, setting: Key, points: pd.DataFrame, score: str) -> Table:
    """Rows are methods, columns budgets.

    A cell is the score in per cent, with the paired interval of its difference to dense in points.
    """
    measured = points[points.budget_label != ""]
    budgets = budget_order(measured)
    rows: list[dict[str, str]] = []
    for method in method_order(points.method):
        own = points[points.method == method]
        texts = {str(point.budget_label): _accuracy(point, score) for _, point in own.iterrows()}
        if "" in texts:  # no budget: the same number stands under all
            texts = dict.fromkeys(budgets or ["accuracy"], texts[""])
        rows.append({"method": method, **{b: texts.get(b, HOLE) for b in budgets or texts}})
    columns = [
        "method",
        "budget",
        "status",
        "n",
        *_with_interval(score),
        *_with_interval(f"{score}_difference"),
        "mcnemar_p",
    ]
    return Table(
        name, accuracy_caption(setting, points, score), pd.DataFrame(rows), _ordered(points).reindex(columns=columns)
    )


def accuracy_caption(setting: Key, points: pd.DataFrame, score: str) -> str:
    model, task, decoding, question = setting
    sizes = sorted({int(n) for n in points.n.dropna()}) if "n" in points else []
    count = " to ".join(str(n) for n in ([sizes[0], sizes[-1]] if len(sizes) > 1 else sizes)) or "no"
    named = points.dropna(subset=["dense_layers"]).groupby("dense_layers").method.unique()
    layers = "; ".join(f"{layers:g} in {', '.join(method_order(methods))}" for layers, methods in named.items())
    options = points.decoding_options.iloc[0]
    how = f"{decoding} ({options})" if options else decoding
    what = "exact match" if score == "exact" else "score"
    mark = f"p < {LEVEL} in McNemar's exact test" if score == "exact" else "the interval excludes zero"
    where = "first generated block" if question == "block" else question
    return (
        f"{task}, model {model}, by KV budget in tokens or in % of the prefix: {what} in %, in brackets the 95 % "
        f"interval of the paired difference to dense in points; {MARK} {mark}; {HOLE} no result. "
        f"{count} examples a cell, decoding {how}, question in the {where}, dense layers: {layers or 'not recorded'}."
        f"{_pairing(sizes)}{_truncation(points)}"
    )


def _pairing(sizes: list[int]) -> str:
    if len(sizes) < 2:
        return ""
    return " Where dense answered more examples than a cell, or fewer, the difference is over those of both."


def _truncation(points: pd.DataFrame) -> str:
    """Says that prompts were cut to what the model can hold: their answer may have stood in what was cut."""
    cut = points[points.truncated_examples > 0] if "truncated_examples" in points else points.iloc[:0]
    if cut.empty:
        return ""
    most = max((row for _, row in cut.iterrows()), key=lambda row: float(row.truncated_examples / row.n))
    return (
        f" Truncated: prompts that exceed the model's positions lost the middle of their context in {len(cut)} of "
        f"{len(points)} cells, in up to {most.truncated_examples:.0f} of {most.n:.0f} examples."
    )


def _accuracy(point: pd.Series, score: str) -> str:
    if point.status != "done":
        return f"{HOLE} ({point.status.replace('_', ' ')})"
    mean = f"{100 * point[score]:.1f}"
    if math.isnan(point.get(f"{score}_difference", math.nan)):
        return mean
    low, high = point[f"{score}_difference_low"], point[f"{score}_difference_high"]
    # With few discordant pairs the bootstrap excludes zero too readily; for a binary score the exact test decides.
    marked = point.mcnemar_p < LEVEL if score == "exact" else low > 0 or high < 0
    return f"{mean} {_interval(low, high)}{MARK if marked else ''}"


def _interval(low: float, high: float) -> str:
    return f"[{_signed(low)}, {_signed(high)}]"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}" if abs(share) >= 5e-4 else "0.0"


def cells_table(comparison: Comparison) -> Table:
    """One row a point, with cost beside accuracy."""
    points = _ordered(comparison.points)
    seconds = f" {comparison.conditions.sentences}" if comparison.values else ""
    caption = (
        "Every cell. Exact match and score in %; difference of exact match to dense with its paired 95 % interval in "
        "points; p of McNemar's exact test; density: KV entries read over those of a dense run, in %; sparse tokens: "
        "share of tokens decided in sparse steps, in % (sparse-token share counts the stop token); sparse blocks: "
        "share of blocks that ran any, in %; forwards per block; mean seconds an example; generated tokens a second up "
        f"to the stop token. {HOLE} no result.{seconds}{_truncation(points)}"
    )
    return Table("cells", caption, pd.DataFrame([_cells_row(p) for _, p in points.iterrows()]), points)


def _cells_row(point: pd.Series) -> dict[str, str]:
    done = point.status == "done"

    def show(field: str, style: str, factor: float = 1.0) -> str:
        value = point.get(field, math.nan)
        return HOLE if not done or pd.isna(value) else format(factor * value, style)

    difference = HOLE
    if done and not pd.isna(point.get("exact_difference")):
        interval = _interval(point.exact_difference_low, point.exact_difference_high)
        difference = f"{_signed(point.exact_difference)} {interval}"
    return {
        "task": point.task,
        "question": point.question,
        "decoding": point.decoding,
        "model": point.model,
        "method": point.method,
        "budget": point.budget_label or HOLE,
        "status": point.status.replace("_", " "),
        "n": show("n", ".0f"),
        "exact": show("exact", ".1f", 100),
        "score": show("score", ".1f", 100),
        "difference": difference,
        "p": "< 0.001" if done and point.get("mcnemar_p", 1.0) < 1e-3 else show("mcnemar_p", ".3f"),
        "density": show("density", ".1f", 100),
        "sparse tokens": show("sparse_token_share", ".0f", 100),
        "sparse blocks": show("sparse_block_share", ".0f", 100),
        **{f"{k} fwd": show(f"{k}_forwards_per_block", ".2f") for k in ("exact", "sparse", "commit")},
        **{f"{k} s": show(f"seconds_{k}", ".3f") for k in ("prefill", "exact", "selection", "sparse", "commit")},
        "tok/s": show("tokens_per_second", ".1f"),
    }


def _with_interval(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]


def _ordered(points: pd.DataFrame) -> pd.DataFrame:
    """Rows in reading order: by setting, then methods with dense first, then rising budgets."""
    methods = method_order(points.method)
    budgets = ["", *budget_order(points[points.budget_label != ""])]
    rank = points.assign(m=points.method.map(methods.index), b=points.budget_label.map(budgets.index))
    return (
        rank.sort_values(["task", "question", "decoding", "model", "m", "b"])
        .drop(columns=["m", "b"])
        .reset_index(drop=True)
    )
