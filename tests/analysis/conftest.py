"""One made-up sweep for all tests of the analysis, written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.analysis.synthetic import example, recall_result, write_answers, write_cell

MARKUP = "<script>alert(1)</script> & \\input{x} $_{a}^b | `c` [d](javascript:e)\x1b[31m\u202eend\n## f"


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dense answers all but example 3, mage always as dense, quest falls with the budget; cells failed and missing."""
    folder = tmp_path_factory.mktemp("outputs") / "demo"
    write_answers(folder, "dense", None, lambda i: i != 3)
    for budget, share in ((32, 0.25), (64, 0.5), (128, 0.75)):
        write_answers(folder, "mage", budget, lambda i: i != 3)
        write_answers(folder, "oracle", budget, lambda i: i != 3)
        if budget != 64:
            write_answers(folder, "quest", budget, lambda i, share=share: i != 3 and i % 4 < 4 * share)
    failure = "Traceback (most recent call last):\ntorch.OutOfMemoryError: <b>no</b> memory"
    write_cell(folder, "quest", 64, [], status="out_of_memory", error=failure)
    rows = [example(i, False, budget=32, prediction=MARKUP) for i in range(40)]
    write_cell(folder, "random", 32, rows)
    once = {"select_step": 1, "refresh_every": 0}
    write_cell(folder, "mage", 64, [recall_result(i) for i in range(6)], runner="recall", options=once)
    killed = folder / "tiny-random-64"
    killed.mkdir()
    (killed / "examples.jsonl").write_text("")
    return folder
