"""A table in Markdown, CSV and LaTeX, with the signs and the order of rows that all tables share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.escaping import latex, markdown
from analysis.ordering import budget_order, method_order

HOLE = "—"
MARK = "†"
WIDE = 10
"""Columns beyond which a table is set smaller."""


@dataclass(frozen=True)
class Table:
    """A caption, the cells as text, the same numbers unrounded for CSV, and what stands under it, if anything."""

    name: str
    caption: str
    cells: pd.DataFrame
    numbers: pd.DataFrame
    note: str = ""

    @property
    def wide(self) -> bool:
        """Whether it has more columns than a page holds at its usual size."""
        return len(self.cells.columns) > WIDE

    def markdown(self) -> str:
        shown = self.cells.map(markdown).rename(columns=markdown)
        align = ["left" if self.cells[c].map(_is_prose).any() else "right" for c in self.cells.columns]
        return str(shown.to_markdown(index=False, disable_numparse=True, colalign=align))

    def latex(self) -> str:
        """A booktabs table; needs the packages booktabs, fontenc with T1, and graphicx where it has many columns."""
        align = ["l" if self.cells[c].map(_is_prose).any() else "r" for c in self.cells.columns]
        scale, end = (r"\resizebox{\linewidth}{!}{%", "}") if self.wide else ("", "")
        lines = [r"\begin{table}", rf"\caption{{{latex(self.caption)}}}", *filter(None, [scale])]
        lines += [rf"\begin{{tabular}}{{{''.join(align)}}}"]
        lines += [r"\toprule", _latex_row([str(c) for c in self.cells.columns]), r"\midrule"]
        lines += [_latex_row([str(v) for v in row]) for row in self.cells.itertuples(index=False)]
        note = [rf"\par\smallskip {latex(self.note)}"] if self.note else []
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}" + end, *note, r"\end{table}", ""])

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        note = f"\n{markdown(self.note)}\n" if self.note else ""
        text = f"{markdown(self.caption)}\n\n{self.markdown()}\n{note}"
        (folder / f"{self.name}.md").write_text(text, encoding="utf-8")
        (folder / f"{self.name}.tex").write_text(self.latex(), encoding="utf-8")
        self.numbers.to_csv(folder / f"{self.name}.csv", index=False, lineterminator="\n")


def _is_prose(cell: str) -> bool:
    return cell[:1].isalpha()


def _latex_row(cells: list[str]) -> str:
    row = " & ".join(map(latex, cells)) + r" \\"
    return "{}" + row if row[0] in "[*" else row  # after a line break these two would be read as its option


def interval_text(low: float, high: float) -> str:
    """An interval of shares in points. Empty where there is none, as of very few examples."""
    return "" if math.isnan(low) else f"[{signed(low)}, {signed(high)}]"


def signed(share: float) -> str:
    """A share in points with its sign."""
    return f"{100 * share:+.1f}" if abs(share) >= 5e-4 else "0.0"


def place(point: pd.Series) -> dict[str, str]:
    """The cells that say which point a row is of."""
    return {
        "task": point.task,
        "question": point.question,
        "decoding": point.decoding,
        "model": point.model,
        "method": point.method,
        "budget": point.budget_label or HOLE,
    }


def ordered(points: pd.DataFrame) -> pd.DataFrame:
    """Rows in reading order: by setting, then methods with dense first, then rising budgets."""
    methods = method_order(points.method)
    budgets = ["", *budget_order(points[points.budget_label != ""])]
    rank = points.assign(m=points.method.map(methods.index), b=points.budget_label.map(budgets.index))
    return (
        rank.sort_values(["task", "question", "decoding", "model", "m", "b"])
        .drop(columns=["m", "b"])
        .reset_index(drop=True)
    )
