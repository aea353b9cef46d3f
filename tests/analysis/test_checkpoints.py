"""Two checkpoints that answered the same examples, paired by example."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from analysis.checkpoints import checkpoint_tables, main
from analysis.figures.recall import recall_rows
from analysis.frame import load
from analysis.statistics import paired_difference
from tests.analysis.synthetic import recall_result, write_answers, write_cell


def _sides(folder: Path) -> tuple[Path, Path]:
    """MAGE at 32 answers every second example before, three of four after; dense answers all both times."""
    before, after = folder / "before", folder / "after"
    for side, share in ((before, 2), (after, 3)):
        told = {"told": {"model": side.name}}
        write_answers(side, "dense", None, lambda i: True)
        write_answers(side, "mage", 128, lambda i: True)
        write_answers(side, "mage", 32, lambda i, share=share: i % 4 < share)
        write_cell(side, "mage", 32, [recall_result(i, steps=12 - share) for i in range(6)], runner="recall", **told)  # type: ignore[arg-type]
    return before, after


def test_each_method_and_budget_is_paired_with_itself(tmp_path: Path) -> None:
    before, after = _sides(tmp_path)
    accuracy, recall = checkpoint_tables(load([before]), load([after]))
    rows = accuracy.numbers.set_index(["method", "budget"])
    assert list(rows.index) == [("dense", ""), ("mage", "32"), ("mage", "128")]
    changed = rows.loc[("mage", "32")]
    assert (changed.before, changed.after, changed.n) == (0.5, 0.75, 40)
    gained = {str(i): float(i % 4 == 2) for i in range(40)}
    expected = paired_difference(gained, dict.fromkeys(gained, 0.0))
    assert (changed.difference, changed.low, changed.high) == pytest.approx(
        (0.25, expected.low, expected.high), abs=0.03
    )
    assert changed.p == pytest.approx(2 / 2**10)
    assert rows.loc[("mage", "128")].difference == 0
    assert recall.numbers.difference.iloc[0] > 0  # fewer late steps, which hold less
    assert "†" in accuracy.markdown() and "†" not in recall.markdown()


def test_recall_of_shared_contexts_resamples_contexts(tmp_path: Path) -> None:
    for side, gain in (("before", 0), ("after", 1)):
        rows = [recall_result(i, steps=12 - gain * (i // 2)) for i in range(12)]
        rows = [row.model_copy(update={"context": f"s0-{i // 2}"}) for i, row in enumerate(rows)]
        write_cell(tmp_path / side, "mage", 32, rows, runner="recall", told={"model": side})
    before, after = load([tmp_path / "before"]), load([tmp_path / "after"])
    (table,) = checkpoint_tables(before, after)
    found, means = table.numbers.iloc[0], [recall_rows(side).groupby("id").recall.mean() for side in (before, after)]
    ours, theirs = ({str(i): float(value) for i, value in side.items()} for side in (means[1], means[0]))
    contexts = {row.id: str(row.context) for row in rows}
    expected, naive = paired_difference(ours, theirs, contexts), paired_difference(ours, theirs)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (expected.low, expected.high) != pytest.approx((naive.low, naive.high))


def test_tables_are_written_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = _sides(tmp_path)
    assert main([str(before), str(after)]) == 0
    told = capsys.readouterr().out
    assert "| niah" in told and json.loads(told.splitlines()[-1])["tables"] == str(after / "analysis")
    assert len(pd.read_csv(after / "analysis" / "checkpoints.csv")) == 3


def test_sides_of_other_examples_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_answers(tmp_path / "before", "mage", 32, lambda i: True, count=30)
    write_answers(tmp_path / "after", "mage", 32, lambda i: True, count=40)
    assert main([str(tmp_path / "before"), str(tmp_path / "after")]) == 2
    assert "on one side only" in capsys.readouterr().err
    write_answers(tmp_path / "other", "quest", 32, lambda i: True)
    assert main([str(tmp_path / "before"), str(tmp_path / "other")]) == 2
    assert "nothing can be paired" in capsys.readouterr().err
