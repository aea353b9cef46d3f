"""Sample predictions: rows of variants are named as in other tables."""

from __future__ import annotations

from pathlib import Path

from analysis.cells_table import cells_table
from analysis.comparison import compare
from analysis.frame import load
from analysis.samples import samples_table
from tests.analysis.synthetic import write_answers


def write(folder: Path, threshold: float) -> None:
    decoding = {"_target_": "mage.generation.decoding.Threshold", "name": "threshold", "threshold": threshold}
    write_answers(folder, "dense", None, lambda i: True, count=4, config={"decoding": decoding})


def test_variants_of_a_decoding_are_named_as_in_the_table_of_cells(tmp_path: Path) -> None:
    for threshold in (0.5, 0.9):
        write(tmp_path, threshold)
    results = load([tmp_path])
    shown = samples_table(results).cells
    assert list(shown.decoding) == list(cells_table(compare(results)).cells.decoding)
    assert [name.partition(" (")[2] for name in shown.decoding] == ["threshold=0.5)", "threshold=0.9)"]
    assert not {"model", "question"} & set(shown.columns), "all have the same"


def test_one_decoding_is_not_named(tmp_path: Path) -> None:
    write(tmp_path, 0.9)
    assert list(samples_table(load([tmp_path])).cells.columns[:3]) == ["task", "method", "budget"]


def test_seconds_of_cells_are_said_to_be_no_speed(tmp_path: Path) -> None:
    write(tmp_path, 0.9)
    caption = cells_table(compare(load([tmp_path]))).caption
    assert "no measurement of speed, which runner=latency is" in caption and "shared by several cells" in caption
