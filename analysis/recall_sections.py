"""The sections on selections: their recall of each step's exact top k, and what they hold of the evidence."""

from __future__ import annotations

from pathlib import Path

from analysis.comparison import Comparison
from analysis.evidence_table import evidence_table
from analysis.figures.evidence import evidence_by_step
from analysis.figures.recall import recall_by_step, recall_rows
from analysis.frame import Results
from analysis.ordering import method_order
from analysis.section import Section, captioned, slug


def recall_sections(results: Results, comparison: Comparison | None, folder: Path) -> list[Section]:
    """One section a method, which says when the method selects, and one on right and wrong answers.

    Writes figures into `folder`. `comparison`: of what was answered, too.
    """
    rows = recall_rows(results)
    if rows.empty:
        return []
    sections: dict[str, Section] = {}
    for key, own in rows.groupby(["model", "task", "decoding", "question", "method"]):
        *setting, method = map(str, key)
        selection = "step-1 selection" if own.selects_once.all() else "selection"
        section = sections.setdefault(method, Section(f"Recall of the {selection} by {method}"))
        told = ", ".join([*setting, method])
        section.figures += captioned(
            recall_by_step(own, folder, f"recall-{slug(*setting, method)}"),
            f"{told}: share of each step's exact top-k that the {selection} holds. "
            "Black: mean of the layers shown, every example weighing the same, with its 95 % interval.",
        )
        section.figures += captioned(
            evidence_by_step(own, folder, f"evidence-{slug(*setting, method)}"),
            f"{told}: of the attention that each step pays to the evidence, the tokens of the context that the answer "
            f"repeats, the share on entries that the {selection} holds. Over the sparse layers and all heads together, "
            "every example weighing the same, with 95 % intervals, as far as half of the examples take so many steps. "
            "Dashed: each step's exact top-k.",
        )
    found = [sections[method] for method in method_order(sections)]
    table = evidence_table(rows, comparison) if comparison is not None else None
    return [*found, Section("Evidence held, and right answers", tables=[table])] if table is not None else found
