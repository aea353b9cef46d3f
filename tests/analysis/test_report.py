from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analysis.__main__ import main
from tests.analysis.synthetic import ENVIRONMENT, recall_result, write_answers, write_cell


class Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def report(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    assert main([str(sweep), "--out", str(folder)]) == 0
    return folder


def test_the_page_is_whole_in_one_file(report: Path) -> None:
    page = Page((report / "report.html").read_text())
    assert page.tags.count("img") == 5
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)


def test_model_output_stays_text(report: Path) -> None:
    page = Page((report / "report.html").read_text())
    assert "script" not in page.tags
    text = "".join(page.words)
    assert "<script>alert(1)</script>" in text
    assert "\\x1b[31m\\u202eend\\x0a## f" in text
    assert "OutOfMemoryError: <b>no</b> memory" in text


def test_markdown_points_at_figures_that_exist(report: Path) -> None:
    text = (report / "report.md").read_text()
    figures = re.findall(r"\]\((figures/[^)]+)\)", text)
    assert len(figures) == 5
    assert all((report / figure).is_file() for figure in figures)
    assert "<script>" not in text.replace(r"\<script\>", "")
    assert "\n## f" not in text


def test_the_report_says_what_failed_and_what_is_not_finished(report: Path) -> None:
    text = (report / "report.md").read_text()
    assert "12 cells: 11 done, 1 out of memory. 400 answers." in text
    assert "tiny-random-64" in text
    assert "Not contradicted in any of 3 places" in text
    assert "Device: cpu. Threads: 1." in text


def test_cells_of_different_conditions_are_named(tmp_path: Path) -> None:
    write_answers(tmp_path, "dense", None, lambda i: True, count=4)
    other = ENVIRONMENT.model_copy(update={"threads": 2, "device": "cuda"})
    write_answers(tmp_path, "mage", 64, lambda i: True, count=4, environment=other)
    assert main([str(tmp_path)]) == 0
    overview = (tmp_path / "analysis" / "report.md").read_text().split("\n## ")[1]
    assert "(devices: cpu, cuda; threads: 1, 2): do not compare their seconds" in overview


@pytest.mark.parametrize(
    ("layers", "told"),
    [(2, "the first 2 layers, exact steps"), (0, "budget, exact steps"), (None, "the first d layers")],
)
def test_the_floor_of_density_is_told(tmp_path: Path, layers: int | None, told: str) -> None:
    write_answers(tmp_path, "dense", None, lambda i: True, count=4)
    write_answers(tmp_path, "mage", 64, lambda i: True, count=4, options={"dense_layers": layers})
    assert main([str(tmp_path)]) == 0
    text = (tmp_path / "analysis" / "report.md").read_text()
    assert text.count(told) == text.count("so density has a floor") == 2  # two figures, each with its caption


def test_every_table_comes_in_three_formats(report: Path) -> None:
    names = {path.stem for path in (report / "tables").iterdir()}
    assert names == {"accuracy-tiny-niah-static-block", "cells", "failures", "samples"}
    assert all((report / "tables" / f"{name}.{kind}").stat().st_size for name in names for kind in ("md", "csv", "tex"))


def test_the_report_is_written_beside_the_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "small"
    write_answers(folder, "dense", None, lambda i: True, count=4)
    write_answers(folder, "mage", 64, lambda i: True, count=4)
    assert main([str(folder)]) == 0
    first = (folder / "analysis" / "report.html").read_bytes()
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    counts = {"cells": 2, "failed": 0, "unfinished": 0, "kernel_records": 0, "wrong_kernels": 0}
    assert last == {"report": str(folder / "analysis" / "report.html"), **counts}
    assert main([str(folder)]) == 0  # its own output is no cell, and the same records give the same report
    assert (folder / "analysis" / "report.html").read_bytes() == first


def test_records_of_recall_alone_make_a_report(tmp_path: Path) -> None:
    write_cell(tmp_path, "mage", 64, [recall_result(0)], runner="recall")
    assert main([str(tmp_path)]) == 0
    assert "Recall of the" in (tmp_path / "analysis" / "report.md").read_text()


@pytest.mark.parametrize(
    ("method", "options", "title"),
    [
        ("mage", {"select_step": 1, "refresh_every": 0}, "## Recall of the step-1 selection by mage\n"),
        ("mage", {"select_step": 1, "refresh_every": 4}, "## Recall of the selection by mage\n"),
        ("mage", {"select_step": 2, "refresh_every": 0}, "## Recall of the selection by mage\n"),
        ("quest", {}, "## Recall of the selection by quest\n"),
    ],
)
def test_only_mage_without_refresh_selects_once_in_step_1(
    tmp_path: Path, method: str, options: dict[str, int], title: str
) -> None:
    write_cell(tmp_path, method, 64, [recall_result(0)], runner="recall", options=options)
    assert main([str(tmp_path)]) == 0
    text = (tmp_path / "analysis" / "report.md").read_text()
    assert title in text
    assert ("step-1" in text) == ("step-1" in title)


def test_only_failures_make_a_report(tmp_path: Path) -> None:
    write_cell(tmp_path, "mage", 64, [], status="error", error="RuntimeError: no", metrics={})
    assert main([str(tmp_path)]) == 0
    text = (tmp_path / "analysis" / "report.md").read_text()
    assert "RuntimeError: no" in text and "1 cell: 1 error. 0 answers." in text


def test_bad_input_is_one_line_and_exit_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'nothing'} is not a folder of results\n"
