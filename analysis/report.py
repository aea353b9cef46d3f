"""The report: tables, figures, checks, failures and sample predictions as one HTML file and one Markdown file."""

from __future__ import annotations

import base64
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from analysis.comparison import BASELINE, POINT, Comparison, compare, order_checks
from analysis.conditions import Conditions
from analysis.escaping import markdown, visible
from analysis.figures.accuracy import accuracy_by_budget, accuracy_by_density
from analysis.figures.density import density_by_budget
from analysis.figures.heatmap import grid_examples, needle_heatmap
from analysis.figures.recall import recall_by_step, recall_rows
from analysis.frame import Results
from analysis.ordering import budget_order, method_order
from analysis.samples import samples_table
from analysis.table import Table, accuracy_table, cells_table

COMMON = ["model", "decoding", "question"]


@dataclass
class Section:
    """A part of the report. Figures are paths of PNG files with their captions."""

    title: str
    lines: list[str] = field(default_factory=list)
    figures: list[tuple[Path, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def write_report(results: Results, title: str, score: str, folder: Path) -> list[Section]:
    """Writes report.html, report.md, tables/ and figures/ under `folder`. Returns the sections of the report.

    report.html holds its figures; report.md points at the files beside it. Raises UserError, OSError.
    """
    sections = [_overview(results)]
    if (results.cells.runner == "evaluate").any():
        comparison = compare(results)
        sections += _accuracy_sections(results, comparison, score, folder / "figures")
        sections += [_order_section(comparison), Section("All cells", tables=[cells_table(comparison)])]
    sections += [*_recall_sections(results, folder / "figures"), _failures(results)]
    if len(results.examples):
        sections.append(Section("Sample predictions", tables=[samples_table(results)]))
    sections = [s for s in sections if s.lines or s.figures or s.tables]
    for table in (table for section in sections for table in section.tables):
        table.write(folder / "tables")
    _render("report.html.jinja", title, sections, folder / "report.html")
    _render("report.md.jinja", title, sections, folder / "report.md")
    return sections


def _overview(results: Results) -> Section:
    records = list(results.cells.record)
    counts = Counter(r.status.replace("_", " ") for r in records)
    status = ", ".join(f"{count} {name}" for name, count in counts.items())
    environments = [r.environment for r in records]
    commits = sorted(
        {(e.git_commit or "unknown")[:12] + (" with changes" if e.git_dirty else "") for e in environments}
    )
    torch = sorted({e.packages.get("torch", "unknown") for e in environments})
    ran = Conditions.of(environments)
    lines = [
        f"{len(records)} cells: {status}. {len(results.examples)} answered examples.",
        f"Code: {', '.join(commits)}. Device: {', '.join(ran.devices)}. Threads: {', '.join(map(str, ran.threads))}. "
        f"torch {', '.join(torch)}.",
        *filter(None, [ran.warning]),
        f"Run from {min(e.started for e in environments)} to {max(e.finished for e in environments)}.",
        "Intervals are 95 % percentile bootstrap intervals over examples, 10,000 resamples; differences to dense are "
        "paired by example. Where all examples of a cell agree the interval has no width: n flawless examples still "
        "allow an error rate of about 3/n.",
    ]
    lines += [f"{note}." for note in results.notes]
    if results.unfinished:
        lines.append(f"Not finished and left out ({len(results.unfinished)}): {', '.join(results.unfinished)}.")
    return Section("What was run", lines)


def _accuracy_sections(results: Results, comparison: Comparison, score: str, folder: Path) -> list[Section]:
    sections: list[Section] = []
    grid = grid_examples(results)
    for key, points in comparison.points.groupby(COMMON, sort=False):
        model, decoding, question = map(str, key)
        place = slug(model, decoding, question)
        where = f"{model}, {decoding} decoding, question in the {_place(question)}"
        accuracy = Section(f"Accuracy by KV budget: {where}")
        accuracy.figures = _captioned(
            accuracy_by_budget(points, score, folder, f"accuracy-{place}"),
            "Accuracy against the KV budget. Bands: 95 % intervals. Markers at one budget stand slightly apart.",
        )
        for setting, own in comparison.settings():
            if own.index.isin(points.index).all():
                accuracy.tables.append(accuracy_table(f"accuracy-{slug(*setting)}", setting, own, score))
        density = Section(f"KV entries really read: {where}")
        density.figures = _captioned(
            accuracy_by_density(points, score, folder, f"accuracy-density-{place}"),
            f"Accuracy against the KV entries really read, as a share of what dense reads. {_floor(points)}",
        ) + _captioned(
            density_by_budget(points, folder, f"density-{place}"),
            f"Measured density against the budget; dotted: budget over prefix length. {_floor(points)}",
        )
        depth = Section(f"Accuracy by length and depth: {where}", figures=_heatmaps(points, grid, score, folder))
        sections += [accuracy, density, depth]
    return sections


def _heatmaps(points: pd.DataFrame, grid: pd.DataFrame, score: str, folder: Path) -> list[tuple[Path, str]]:
    """One heatmap a task, at the middle one of its budgets. Examples of points without a result stay out."""
    figures: list[tuple[Path, str]] = []
    done = points[points.status == "done"]
    for task, own in done.groupby("task", sort=False):
        budgets = budget_order(own[own.budget_label != ""])
        if budgets:
            budget = budgets[(len(budgets) - 1) // 2]
            rows = grid.merge(own[POINT])
            name = f"heatmap-{slug(*map(str, own[[*COMMON, 'task']].iloc[0]), budget)}"
            caption = f"{task}: accuracy by context length and needle depth, budget {budget}."
            figures += _captioned(needle_heatmap(rows, budget, score, folder, name), caption)
    return figures


def _place(question: str) -> str:
    return "first generated block" if question == "block" else question


def _floor(points: pd.DataFrame) -> str:
    """Why density does not fall to budget / prefix."""
    found = sorted(points.dense_layers[points.method != BASELINE].dropna().unique())
    count = " or ".join(f"{layers:g}" for layers in found) or "d"
    whole = (
        "exact steps and dense commits" if found == [0] else f"the first {count} layers, exact steps and dense commits"
    )
    return f"Whatever the budget, {whole} are read whole, so density has a floor."


def _captioned(paths: list[Path], caption: str) -> list[tuple[Path, str]]:
    return [(path, caption) for path in paths]


def _order_section(comparison: Comparison) -> Section:
    """Says where a smaller budget, or the oracle, beats what it cannot beat by more than chance."""
    section = Section("Check: dense >= oracle(k) >= oracle(next smaller k)")
    checks = order_checks(comparison)
    for check in checks:
        if not check.holds:
            d = check.difference
            section.lines.append(
                f"Fails on {', '.join(check.setting)}: {check.smaller} beats {check.larger} "
                f"by {100 * d.mean:.1f} points "
                f"[{100 * d.low:+.1f}, {100 * d.high:+.1f}]."
            )
    if checks and not section.lines:
        section.lines.append(
            f"Not contradicted in any of {len(checks)} places: no paired interval lies wholly above zero."
        )
    return section


def _recall_sections(results: Results, folder: Path) -> list[Section]:
    """One section a method, which says when the method selects."""
    rows = recall_rows(results)
    sections: dict[str, Section] = {}
    for key, own in rows.groupby(["model", "task", "decoding", "question", "method"]) if len(rows) else ():
        *setting, method = map(str, key)
        selection = "step-1 selection" if own.selects_once.all() else "selection"
        section = sections.setdefault(method, Section(f"Recall of the {selection} by {method}"))
        figures = recall_by_step(own, folder, f"recall-{slug(*setting, method)}")
        section.figures += _captioned(
            figures,
            f"{', '.join([*setting, method])}: share of each step's exact top-k that the {selection} holds. "
            "Black: mean of the layers shown, every example weighing the same, with its 95 % interval.",
        )
    return [sections[method] for method in method_order(sections)]


def _failures(results: Results) -> Section:
    failed = results.cells[results.cells.status != "done"]
    rows = [
        {
            "cell": cell.record.name,
            "status": cell.status.replace("_", " "),
            "error": visible((cell.record.error or "").strip().splitlines()[-1] if cell.record.error else "", 200),
        }
        for _, cell in failed.iterrows()
    ]
    frame = pd.DataFrame(rows)
    return Section("Failed cells", tables=[Table("failures", "Cells without a result.", frame, frame)] if rows else [])


def slug(*parts: str) -> str:
    """A file name of labels."""
    return "-".join(re.sub(r"[^A-Za-z0-9._]+", "_", part.replace("%", "pct")).strip("_") for part in parts)


def _render(template: str, title: str, sections: list[Section], path: Path) -> None:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=template.endswith(".html.jinja"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = markdown
    environment.filters["data"] = lambda file: base64.b64encode(Path(file).read_bytes()).decode("ascii")
    text = environment.get_template(template).render(title=title, sections=sections)
    path.write_text(text, encoding="utf-8")
