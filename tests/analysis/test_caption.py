"""What captions say of questions that a method keeps outside its budget."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.accuracy_table import accuracy_table
from analysis.cells_table import cells_table
from analysis.comparison import compare
from analysis.frame import load
from analysis.suite import suites
from analysis.suite_table import suite_table
from tests.analysis.synthetic import example, write_cell


def write_questions(
    folder: Path, task: str, tokens: int, *, method: str = "snapkv", aware: bool = False, question: str = "text"
) -> None:
    """Two budgets of 5 examples, whose questions have `tokens` prefilled tokens in the median."""
    for budget in (256, 512):
        rows = [
            example(i, True, budget=budget, question_tokens_prefilled=count)
            for i, count in enumerate((0, tokens - 1, tokens, tokens + 1, 9000))
        ]
        told = {"metric": "F1", "question": question}
        write_cell(folder, method, budget, rows, task=task, told=told, options={"query_aware": aware})


def test_long_questions_beside_the_budget_of_snapkv_are_told(tmp_path: Path) -> None:
    for task, tokens in (("triviaqa", 388), ("samsum", 65), ("qasper", 64)):
        write_questions(tmp_path, f"longbench/{task}", tokens)
    comparison = compare(load([tmp_path]))
    [suite] = suites(comparison)
    said = (
        "snapkv keeps all prefilled question tokens outside its budget: more than a quarter of the smallest budget "
        "(256 tokens) in the median, 388 on longbench/triviaqa, 65 on longbench/samsum."
    )
    assert said in suite_table(suite, "t").caption
    assert said in cells_table(comparison).caption
    captions = {setting[1]: accuracy_table("a", setting, points).caption for setting, points in comparison.settings()}
    assert {task for task, caption in captions.items() if "outside its budget" in caption} == {
        "longbench/triviaqa",
        "longbench/samsum",
    }


@pytest.mark.parametrize(
    ("method", "aware", "question"),
    [("snapkv_query", True, "text"), ("snapkv", False, "context"), ("snapkv", False, "block")],
)
def test_questions_that_count_or_stand_elsewhere_are_not_told(
    tmp_path: Path, method: str, aware: bool, question: str
) -> None:
    write_questions(tmp_path, "longbench/triviaqa", 388, method=method, aware=aware, question=question)
    assert "outside its budget" not in cells_table(compare(load([tmp_path]))).caption
