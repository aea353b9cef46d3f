from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.frame import load
from analysis.variants import name_variants
from mage.errors import UserError
from tests.analysis.synthetic import example, recall_result, write_answers, write_cell


def test_the_cell_with_more_examples_is_kept_and_one_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for count in (20, 30, 40):
        write_answers(tmp_path, "dense", None, lambda i: True, count=count, config={"budget": count})
        write_answers(tmp_path, "mage", 64, lambda i: True, count=count)
    write_answers(tmp_path, "quest", 64, lambda i: i > 4, count=20)
    results = load([tmp_path])
    asked = {cell.method: cell.record.config["examples"] for _, cell in results.cells.iterrows()}
    assert asked == {"dense": 40, "mage": 40, "quest": 20}
    assert len(results.examples) == 100
    assert main([str(tmp_path)]) == 0
    output = capsys.readouterr()
    assert output.err.count("\n") == 1
    assert output.err.startswith("note: 4 cells left out, computed again with more examples, the first: tiny-")
    assert "left out, computed again" in (tmp_path / "analysis" / "report.md").read_text()


def test_a_larger_cell_that_failed_stands_as_failed(tmp_path: Path) -> None:
    write_answers(tmp_path, "mage", 64, lambda i: True, count=20)
    write_cell(tmp_path, "mage", 64, [], status="out_of_memory", error="no memory", config={"examples": 40})
    assert list(load([tmp_path]).cells.status) == ["out_of_memory"]


def test_all_examples_are_more_than_any_number(tmp_path: Path) -> None:
    write_answers(tmp_path, "mage", 64, lambda i: True, count=20)
    write_answers(tmp_path, "mage", 64, lambda i: True, count=30, config={"examples": None})
    write_answers(tmp_path, "quest", 64, lambda i: True, count=20)
    write_cell(tmp_path, "quest", 64, [], status="error", error="no", config={"examples": None})
    results = load([tmp_path])
    assert len(results.examples) == 30
    assert dict(zip(results.cells.method, results.cells.status)) == {"mage": "done", "quest": "error"}


def test_recall_of_more_examples_replaces_that_of_fewer(tmp_path: Path) -> None:
    for count in (2, 3):
        write_cell(tmp_path, "mage", 64, [recall_result(i) for i in range(count)], runner="recall")
    assert load([tmp_path]).recall.id.nunique() == 3


def test_other_examples_are_not_replaced(tmp_path: Path) -> None:
    write_answers(tmp_path, "mage", 64, lambda i: True, count=20)
    write_cell(tmp_path, "mage", 64, [example(i, True) for i in range(1, 31)])
    with pytest.raises(UserError, match=r"answered other examples.* Move one of them"):
        load([tmp_path])


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"runner": {"name": "evaluate", "batch_size": 4}}, "runner.batch_size"),
        ({"extra": 1}, "extra"),
    ],
)
def test_cells_that_cannot_be_told_apart_are_refused(tmp_path: Path, config: dict[str, Any], field: str) -> None:
    write_answers(tmp_path, "mage", 64, lambda i: True)
    write_answers(tmp_path, "mage", 64, lambda i: True, config=config)
    with pytest.raises(UserError, match=f"differ in these fields: {field}. Move one") as error:
        load([tmp_path])
    assert "\n" not in str(error.value)


def test_how_the_engine_ran_is_named_by_runner() -> None:
    """All of runner=latency where its cells differ; of others what is not as usual; nothing where a runner's agree."""

    def cell(runner: str, method: str, fuse_commit: bool) -> dict[str, Any]:
        labels = {"model": "a", "task": "t", "decoding": "d", "runner": runner, "method": method}
        return {**labels, "record": SimpleNamespace(config={"fuse_commit": fuse_commit})}

    found = [cell("recall", "mage", way) for way in (True, False)] + [cell("evaluate", "dense", True)]
    found += [cell("latency", "mage", True), cell("latency", "quest", False)]
    assert list(name_variants(pd.DataFrame(found)).method) == [
        "mage (fuse_commit=true)",
        "mage",
        "dense",
        "mage (fuse_commit=true)",
        "quest (fuse_commit=false)",
    ]
