"""A report of a whole benchmark stays one that can be read."""

from __future__ import annotations

from contextlib import redirect_stdout
from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.categories import LONGBENCH
from tests.analysis.conftest import MARKUP
from tests.analysis.synthetic import example, write_cell
from tests.analysis.test_report import Page

METHODS = ("dense", "mage", "quest", "oracle")
BUDGETS = (256, 512)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 21 tasks under 4 methods."""
    folder = tmp_path_factory.mktemp("outputs") / "big"
    for number, task in enumerate(task for names in LONGBENCH.values() for task in names):
        for method in METHODS:
            for budget in BUDGETS if method != "dense" else (None,):
                rows = [
                    example(
                        *(i, False),
                        task=task,
                        budget=budget,
                        score=0.02 * number + (0.1 if budget is None else 0.0),
                        labels={"words": 10 * i},
                        prediction=MARKUP,
                    )
                    for i in range(4)
                ]
                told = {"metric": "F1", "source": "hub", "question": "text"}
                write_cell(folder, method, budget, rows, task=f"longbench/{task}", told=told)
    with (folder / "terminal.txt").open("w") as terminal, redirect_stdout(terminal):
        assert main([str(folder), "--out", str(folder / "report")]) == 0
    return folder / "report"


def test_the_page_opens_with_two_tables_and_folds_the_rest(report: Path) -> None:
    text = (report / "report.html").read_text()
    opened = "".join(part.partition("</details>")[2] for part in f"</details>{text}".split("<details>"))
    assert (opened.count("<table"), text.count("<table")) == (2, 25)  # categories and tasks; 21 tasks, cells, samples
    assert Page(text).tags.count("details") == 3
    assert opened.count("<img") == 3


def test_markdown_names_the_files_of_what_is_folded(report: Path) -> None:
    text = (report / "report.md").read_text()
    assert text.count("| method") == 2
    names = [line.partition("](tables/")[2].rstrip(")") for line in text.splitlines() if "](tables/" in line]
    assert len(names) == 23
    assert all((report / "tables" / name).is_file() for name in names)
    assert len(text) < 20_000


def test_only_the_tables_of_the_benchmark_go_to_the_terminal(report: Path) -> None:
    output = (report.parent / "terminal.txt").read_text()
    assert output.count("| method") == 2
    assert "average" in output


def test_markup_in_folded_predictions_stays_text(report: Path) -> None:
    page = Page((report / "report.html").read_text())
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in "".join(page.words)
