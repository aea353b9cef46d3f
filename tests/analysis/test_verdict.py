"""Which cells the regression gate holds against each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from analysis.regression import main
from tests.analysis.synthetic import write_answers

STATIC = {"_target_": "mage.generation.decoding.Static", "name": "static"}
TINY = {"name": "tiny", "path": "mage/checkpoints/tiny", "block_size": 32, "dtype": "float32"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"config": {"decoding": {**STATIC, "tokens_per_step": 4}}}, "decoding.tokens_per_step is 1 in the reference"),
        ({"options": {"dense_layers": 1}}, "method.dense_layers is 2 in the reference and 1 here"),
        ({"options": {"_target_": "other"}}, "method._target_ is mage in the reference and other here"),
        ({"options": {"page_size": 4}}, "method.page_size is not set in the reference and 4 here"),
        ({"config": {"model": {**TINY, "block_size": 16}}}, "model.block_size is 32 in the reference and 16 here"),
        ({"config": {"model": {**TINY, "dtype": "bfloat16"}}}, "model.dtype is float32 in the reference"),
        (
            {"config": {"task": {"name": "niah", "lengths": [512]}}},
            "task.lengths is [512, 1024, 2048] in the reference",
        ),
        ({"seed": 1}, "seed is 0 in the reference and 1 here"),
    ],
)
def test_cells_of_other_options_are_not_compared(
    changes: dict[str, Any], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_answers(tmp_path / "before", "mage", 64, lambda i: True)
    write_answers(tmp_path / "after", "mage", 64, lambda i: True, **changes)
    for allowed in ([], ["--allow-missing"]):
        assert main([str(tmp_path / "after"), "--against", str(tmp_path / "before"), *allowed]) == 2
        error = capsys.readouterr().err
        assert f"error: tiny mage 64 niah static block cannot be compared: {told}" in error
        assert error.count("\n") == 1


def test_batch_size_and_path_of_the_weights_are_no_other_options(tmp_path: Path) -> None:
    write_answers(tmp_path / "before", "mage", 64, lambda i: True)
    changed = {"model": {**TINY, "path": "elsewhere"}, "runner": {"name": "evaluate", "batch_size": 4}}
    write_answers(tmp_path / "after", "mage", 64, lambda i: True, config=changed)
    assert main([str(tmp_path / "after"), "--against", str(tmp_path / "before")]) == 0


def test_an_option_that_came_later_and_is_not_set_is_no_other_option(tmp_path: Path) -> None:
    write_answers(tmp_path / "before", "mage", 64, lambda i: True)
    changed = {"decoding": {**STATIC, "tokens_per_step": 1, "sub_block": None}, "model": {**TINY, "yarn": None}}
    write_answers(tmp_path / "after", "mage", 64, lambda i: True, config=changed)
    assert main([str(tmp_path / "after"), "--against", str(tmp_path / "before")]) == 0


def test_a_variant_is_the_same_cell_in_any_company(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for layers in (0, 1):
        write_answers(tmp_path / "before", "mage", 64, lambda i: True, options={"dense_layers": layers})
    write_answers(tmp_path / "after", "mage", 64, lambda i: i > 20, options={"dense_layers": 1})
    assert main([str(tmp_path / "after"), "--against", str(tmp_path / "before"), "--allow-missing"]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert json.loads(last)["new"] == 0
    assert [line.split(":")[0] for line in lines] == [
        f"{result:6} niah mage budget 64 (tiny, static, question=block, method.dense_layers={layers})"
        for result, layers in (("absent", 0), ("fell", 1))
    ]
