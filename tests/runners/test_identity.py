"""What is part of a cell's identity, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from run import CONF
from runners.cell import Cell, read_cell
from runners.composition import compose_sweep
from runners.plan import is_dense, plan_sweep
from tests.runners.conftest import write_tiny_checkpoint


def cell(checkpoint: Path, *overrides: str) -> Cell:
    (config,) = compose_sweep([f"model.weights={checkpoint}", *overrides], CONF, multirun=False) or []
    return read_cell(config)


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "examples=41",
        "budget=63",
        "budget=0.5",
        "dense_layers=1",
        "method=oracle",
        "method.commit=sparse",
        "task=multi_value",
        "task.question=prefix",
        "task.needles=20",
        "decoding=threshold",
        "decoding.tokens_per_step=2",
        "runner.batch_size=2",
        "runner=recall",
        "model.dtype=bfloat16",
        "model.stop_ids=[2,0]",
        "model.device=cuda",
    ],
)
def test_what_can_change_a_result_changes_the_identity(override: str, tiny_checkpoint: Path) -> None:
    assert cell(tiny_checkpoint, override).identity != cell(tiny_checkpoint).identity


@pytest.mark.parametrize(
    "override",
    [
        "name=other",
        "output_dir=elsewhere",
        "tracker=none",
        "tracker.project=other",
        "dense_reference=false",
        "runner.timeout_s=5",
        "runner.on_error=stop",
        "runner.prefix_cache_gib=0",
        "model.threads=2",
        "model.threads=null",
    ],
)
def test_what_cannot_change_a_result_does_not(override: str, tiny_checkpoint: Path) -> None:
    assert cell(tiny_checkpoint, override).identity == cell(tiny_checkpoint).identity


def test_the_index_of_a_device_is_no_part_of_it(tiny_checkpoint: Path) -> None:
    first, second = (cell(tiny_checkpoint, f"model.device=cuda:{index}") for index in range(2))
    assert first.identity == second.identity


def test_a_share_is_not_a_count(tiny_checkpoint: Path) -> None:
    assert cell(tiny_checkpoint, "budget=1.0").identity != cell(tiny_checkpoint, "budget=1").identity


def test_weights_are_part_of_it_and_their_place_is_not(tiny_checkpoint: Path, tmp_path: Path) -> None:
    moved = write_tiny_checkpoint(tmp_path / "moved")
    other = write_tiny_checkpoint(tmp_path / "other", seed=1)
    assert cell(moved).identity == cell(tiny_checkpoint).identity
    assert cell(other).identity != cell(tiny_checkpoint).identity


def test_dense_under_many_budgets_and_dense_layers_is_one_cell(tiny_checkpoint: Path) -> None:
    overrides = [f"model.weights={tiny_checkpoint}", "method=dense", "budget=16,32,0.5", "dense_layers=0,2"]
    plan = plan_sweep(compose_sweep(overrides, CONF, multirun=True) or [])
    assert [c.labels.budget for c in plan.cells] == [None]
    assert len(plan.repeated) == 5


def test_a_reference_is_added_once_for_each_setting_that_needs_its_own(tiny_checkpoint: Path) -> None:
    overrides = [f"model.weights={tiny_checkpoint}", "method=mage,quest", "seed=0,1", "task.question=block,prefix"]
    plan = plan_sweep(compose_sweep(overrides, CONF, multirun=True) or [])
    assert sorted((c.labels.seed, c.labels.question) for c in plan.added) == [
        (seed, question) for seed in (0, 1) for question in ("block", "prefix")
    ]
    position = {c.identity: index for index, c in enumerate(plan.cells)}
    for reference in plan.added:
        paired = [c for c in plan.cells if c.prompts_key == reference.prompts_key]
        assert [position[c.identity] - position[paired[0].identity] for c in paired] == [0, 1, 2]
        assert is_dense(paired[0])


@pytest.mark.parametrize(
    "varied",
    [
        "runner.batch_size=1,2",
        "model.block_size=16,32",
        "model.mask_id=1,3",
        "model.stop_ids=[2],[3]",
        "model.alignment=same,shifted",
        "model.dtype=float32,bfloat16",
        "decoding.tokens_per_step=1,2",
        "task.needles=8,16",
        "examples=3,4",
    ],
)
def test_each_setting_is_compared_with_a_reference_of_its_own(varied: str, tiny_checkpoint: Path) -> None:
    overrides = [f"model.weights={tiny_checkpoint}", varied, "budget=16,32"]
    plan = plan_sweep(compose_sweep(overrides, CONF, multirun=True) or [])
    named = plan_sweep(compose_sweep([*overrides, "method=dense"], CONF, multirun=True) or [])
    assert len(plan.added) == 2
    assert {c.identity for c in plan.added} == {c.identity for c in named.cells}, "as if it had been named"


def test_what_changes_no_result_needs_no_second_reference(tiny_checkpoint: Path) -> None:
    overrides = [f"model.weights={tiny_checkpoint}", "runner.prefix_cache_gib=0,1", "dense_layers=1,2"]
    assert len(plan_sweep(compose_sweep(overrides, CONF, multirun=True) or []).added) == 1


@pytest.mark.parametrize("override", ["method=mage,dense", "dense_reference=false", "runner=recall"])
def test_no_reference_is_added_where_none_is_wanted(override: str, tiny_checkpoint: Path) -> None:
    plan = plan_sweep(compose_sweep([f"model.weights={tiny_checkpoint}", override], CONF, multirun=True) or [])
    assert plan.added == []
