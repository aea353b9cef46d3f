"""The report: tables, figures, checks, failures and sample predictions as one HTML file and one Markdown file."""

from __future__ import annotations

import base64
from collections import Counter
from pathlib import Path

import pandas as pd

from analysis.accuracy_sections import accuracy_sections
from analysis.cells_table import cells_table
from analysis.comparison import Comparison, compare, order_checks
from analysis.conditions import Conditions
from analysis.escaping import markdown, visible
from analysis.frame import Results
from analysis.kernel_sections import kernel_sections
from analysis.marks import warnings
from analysis.measure import Measure
from analysis.recall_sections import recall_sections
from analysis.samples import samples_table
from analysis.section import Section, brief
from analysis.speed_sections import speed_sections
from analysis.statistics import FEWEST
from analysis.table import Table
from analysis.writing_by_length import writing_by_length
from analysis.writing_table import writing_table
from tasks.task import CONTEXT

LONG = 40
"""Rows beyond which a table is a detail."""


def write_report(results: Results, title: str, chosen: Measure | None, folder: Path) -> list[Section]:
    """Writes report.html, report.md, tables/ and figures/ under `folder`. Returns the sections of the report.

    report.html holds its figures; report.md points at the files beside it. Accuracy is the `chosen` measure, or else
    what each task is judged by. Raises UserError, OSError.
    """
    sections = [_overview(results)]
    comparison = compare(results) if (results.cells.runner == "evaluate").any() else None
    if comparison is not None:
        writing = writing_table(comparison, chosen)
        if writing is not None:
            sections.append(_table_section("Ways of writing", writing))
            by_length = writing_by_length(comparison, chosen)
            sections[-1].tables += [by_length] if by_length is not None else []
        sections += accuracy_sections(results, comparison, chosen, folder / "figures")
        sections += [_order_section(comparison, chosen), _table_section("All cells", cells_table(comparison, chosen))]
    sections += [
        *speed_sections(results, folder / "figures"),
        *kernel_sections(results, folder / "figures"),
        *recall_sections(results, comparison, folder / "figures"),
        _failures(results),
    ]
    if len(results.examples):
        sections.append(_table_section("Sample predictions", samples_table(results, chosen)))
    sections = [s for s in sections if s.lines or s.figures or s.tables]
    folder.mkdir(parents=True, exist_ok=True)
    for table in (table for section in sections for table in section.tables):
        table.write(folder / "tables")
    _render("report.html.jinja", title, sections, folder / "report.html")
    _render("report.md.jinja", title, sections, folder / "report.md")
    return sections


def _table_section(title: str, table: Table) -> Section:
    return Section(title, tables=[table], details=len(table.cells) > LONG)


def _overview(results: Results) -> Section:
    records = list(results.cells.record)
    counts = Counter(r.status.replace("_", " ") for r in records)
    status = ", ".join(f"{count} {name}" for name, count in counts.items())
    environments = results.environments
    commits = sorted(
        {(e.git_commit or "unknown")[:12] + (" with changes" if e.git_dirty else "") for e in environments}
        | {commit[:12] for e in environments for commit in e.earlier_commits}
    )
    torch = sorted({e.packages.get("torch", "unknown") for e in environments})
    ran = Conditions.of(environments)
    lines = [f"{_count(len(records), 'cell')}: {status}. {_count(len(results.examples), 'answer')}."] if records else []
    lines += [f"{_count(len(results.kernels), 'record')} of timed kernels."] if results.kernels else []
    lines += [
        f"Code: {', '.join(commits)}. Device: {', '.join(ran.devices)}. Threads: {', '.join(map(str, ran.threads))}. "
        f"torch {', '.join(torch)}.",
        *filter(None, [ran.warning]),
        f"Run from {min(e.started for e in environments)} to {max(e.finished for e in environments)}.",
    ]
    if len(results.examples) or len(results.recall):
        lines.append(
            "Intervals are 95 % percentile bootstrap intervals over examples, 10,000 resamples; differences to dense "
            "are paired by example. An example that several seeds ask counts once, with the mean of its answers; of "
            f"fewer than {FEWEST} examples there is no interval. Where all examples of a cell agree the interval has "
            "no width: n flawless examples still allow an error rate of about 3/n."
        )
    if any(CONTEXT in labels for labels in results.examples["labels"]):
        lines.append("Where examples share a context, whole contexts are resampled instead, and tested.")
    lines += [*warnings(results.cells), *(f"{note}." for note in results.notes)]
    if results.unfinished:
        lines.append(f"Not finished and left out ({len(results.unfinished)}): {', '.join(results.unfinished)}.")
    return Section("What was run", lines)


def _count(number: int, unit: str) -> str:
    return f"{number} {unit if number == 1 else unit + 's'}"


def _order_section(comparison: Comparison, chosen: Measure | None) -> Section:
    """Says where a smaller budget, or the oracle, beats what it cannot beat by more than chance."""
    section = Section("Check: dense >= oracle(k) >= oracle(next smaller k)")
    checks = order_checks(comparison, chosen)
    for check in checks:
        if not check.holds:
            d = check.difference
            section.lines.append(
                f"Fails on {', '.join(check.setting)}: {check.smaller} beats {check.larger} "
                f"by {100 * d.mean:.1f} points "
                f"[{100 * d.low:+.1f}, {100 * d.high:+.1f}]."
            )
    if section.lines:
        section.lines.insert(
            0, f"{len(section.lines)} of {len(checks)} places fail; by chance alone one in forty would."
        )
    elif checks:
        section.lines.append(
            f"Not contradicted in any of {len(checks)} places: no paired interval lies wholly above zero."
        )
    return section


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
    environment.filters["brief"] = brief
    environment.filters["data"] = lambda file: base64.b64encode(Path(file).read_bytes()).decode("ascii")
    text = environment.get_template(template).render(title=title, sections=sections)
    path.write_text(text, encoding="utf-8")
