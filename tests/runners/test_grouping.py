"""Groups of cells: what shares a prefill stands together, and nothing else does."""

from __future__ import annotations

from pathlib import Path

from run import CONF
from runners.cell import Cell
from runners.composition import compose_sweep
from runners.sweeping.grouping import groups_of
from runners.sweeping.plan import plan_sweep


def cells(checkpoint: Path, *overrides: str) -> list[Cell]:
    given = [f"model.weights={checkpoint}", "examples=2", *overrides]
    return plan_sweep(compose_sweep(given, CONF, multirun=True)).cells


def test_methods_budgets_and_decodings_share(tiny_checkpoint: Path) -> None:
    swept = cells(tiny_checkpoint, "method=mage,quest", "budget=16,32", "decoding=static,threshold")
    assert groups_of(swept) == [swept]


def test_examples_models_tasks_and_batches_do_not(tiny_checkpoint: Path) -> None:
    for axis in ("seed=0,1", "task=niah,aggregation", "model.block_size=16,32", "runner=evaluate,batched"):
        swept = cells(tiny_checkpoint, "method=dense,random", axis)
        assert [len(group) for group in groups_of(swept)] == [2, 2], axis
        assert sorted(id(cell) for group in groups_of(swept) for cell in group) == sorted(map(id, swept))


def test_causal_prefills_are_shared_between_block_sizes_that_stand_together(tiny_checkpoint: Path) -> None:
    causal = ("model.prefix_attention=causal", "model.block_size=4,8", "task.question=prefix")
    (group,) = groups_of(cells(tiny_checkpoint, "method=dense,mage,quest", *causal))
    assert [cell.settings.model.block_size for cell in group] == [4] * 3 + [8] * 3


def test_a_group_is_bounded(tiny_checkpoint: Path) -> None:
    swept = cells(tiny_checkpoint, "method=quest", "budget=range(16,26)", "dense_reference=false")
    assert [len(group) for group in groups_of(swept, most=4)] == [4, 4, 2]


def test_contexts_of_contests_do_not_share(tiny_checkpoint: Path) -> None:
    swept = cells(tiny_checkpoint, "runner=latency", "method=mage,quest", "budget=32", "runner.context=64,128")
    assert [[cell.labels.task for cell in group] for group in groups_of(swept)] == [
        ["context 64 batch 1"] * 2,
        ["context 128 batch 1"] * 2,
    ]
