"""What is part of a cell's identity, and what is not."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from mage.errors import UserError
from mage.models.checkpoint import content_hash, load_model
from mage.models.folder import Folder
from mage.models.source import check_source
from run import CONF
from runners.cell import Cell, read_cell
from runners.composition import compose_sweep
from runners.sweeping.plan import is_dense, plan_sweep
from tests.conftest import spec, write_checkpoint
from tests.mage.adapters import random_adapter
from tests.runners.conftest import write_tiny_checkpoint


def cell(checkpoint: Path, *overrides: str) -> Cell:
    (config,) = compose_sweep([f"model.weights={checkpoint}", *overrides], CONF, multirun=False)
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
        "runner.likelihood=true",
        "runner=recall",
        "model.dtype=bfloat16",
        "model.stop_ids=[2,0]",
        "model.device=cuda",
        "attention=triton",
        "capture=false",
        "fuse_commit=true",
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
        "launcher=local",
        "plan=true",
        "model.threads=2",
        "model.threads=null",
        "attention=torch",
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


CAUSAL = ("model.prefix_attention=causal", "model.alignment=shifted")


def adapter(checkpoint: Path, folder: Path, seed: int = 0) -> str:
    """Write an adapter and return the override that names it."""
    random_adapter(load_model(checkpoint, spec()).body, seed).write(folder, torch.float32, "base")
    return f"model.adapter={folder}"


def test_an_adapter_is_part_of_it_and_its_place_is_not(tiny_checkpoint: Path, tmp_path: Path) -> None:
    here, moved = (adapter(tiny_checkpoint, tmp_path / name) for name in ("here", "moved"))
    other = adapter(tiny_checkpoint, tmp_path / "other", seed=1)
    found = [cell(tiny_checkpoint, *CAUSAL, *more).identity for more in ([], [here], [moved], [other])]
    assert found[1] == found[2] and len(set(found)) == 3


def test_an_adapter_that_no_forward_uses_is_no_part_of_it(tiny_checkpoint: Path, tmp_path: Path) -> None:
    override = adapter(tiny_checkpoint, tmp_path / "a")
    single = [cell(tiny_checkpoint, *CAUSAL, "model.block_size=1", *more).identity for more in ([], [override])]
    assert single[0] == single[1], "blocks of one token have no denoising step"


def test_without_an_adapter_it_is_what_it_was_before_there_were_any(tiny_checkpoint: Path) -> None:
    now = cell(tiny_checkpoint)
    before = {**now.config, "model": {key: value for key, value in now.config["model"].items() if key != "adapter"}}
    assert "adapter" in now.config["model"] and read_cell(before).identity == now.identity
    # The hash of the model as it was computed then.
    source = Folder(tiny_checkpoint)
    content = f"{content_hash(source, source.tokenizer({}), check_source(source))}:8192"
    assert now.checkpoint.content_hash == hashlib.sha256(content.encode()).hexdigest()[:16]


def test_an_adapter_of_another_body_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    override = adapter(write_tiny_checkpoint(tmp_path / "m"), tmp_path / "a")
    wider = write_checkpoint(tmp_path / "wider", vocab_size=2000, intermediate_size=64)
    with pytest.raises(UserError, match=r"/a/adapter_model\.safetensors: tensor .* has shape .*, the model needs"):
        cell(wider, override, *CAUSAL)


def test_dense_under_many_budgets_and_dense_layers_is_one_cell(tiny_checkpoint: Path) -> None:
    overrides = [f"model.weights={tiny_checkpoint}", "method=dense", "budget=16,32,0.5", "dense_layers=0,2"]
    plan = plan_sweep(compose_sweep(overrides, CONF, multirun=True))
    assert [c.labels.budget for c in plan.cells] == [None]
    assert len(plan.repeated) == 5


def test_a_reference_is_added_once_for_each_setting_that_needs_its_own(tiny_checkpoint: Path) -> None:
    overrides = [f"model.weights={tiny_checkpoint}", "method=mage,quest", "seed=0,1", "task.question=block,prefix"]
    plan = plan_sweep(compose_sweep(overrides, CONF, multirun=True))
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
    plan = plan_sweep(compose_sweep(overrides, CONF, multirun=True))
    named = plan_sweep(compose_sweep([*overrides, "method=dense"], CONF, multirun=True))
    assert len(plan.added) == 2
    assert {c.identity for c in plan.added} == {c.identity for c in named.cells}, "as if it had been named"


def test_what_changes_no_result_needs_no_second_reference(tiny_checkpoint: Path) -> None:
    overrides = [f"model.weights={tiny_checkpoint}", "runner.timeout_s=5,6", "dense_layers=1,2"]
    assert len(plan_sweep(compose_sweep(overrides, CONF, multirun=True)).added) == 1


@pytest.mark.parametrize("override", ["method=mage,dense", "dense_reference=false", "runner=recall"])
def test_no_reference_is_added_where_none_is_wanted(override: str, tiny_checkpoint: Path) -> None:
    plan = plan_sweep(compose_sweep([f"model.weights={tiny_checkpoint}", override], CONF, multirun=True))
    assert plan.added == []


def test_options_that_came_later_leave_the_identity_of_earlier_cells(tiny_checkpoint: Path) -> None:
    now = cell(tiny_checkpoint)
    before = {**now.config, "runner": {k: v for k, v in now.config["runner"].items() if k != "likelihood"}}
    assert "likelihood" in now.config["runner"] and read_cell(before).identity == now.identity
    for option in ("attention", "capture", "fuse_commit"):
        before = {k: v for k, v in now.config.items() if k != option}
        assert option in now.config and read_cell(before).identity == now.identity


def test_the_implementation_that_runs_is_part_of_it(tiny_checkpoint: Path) -> None:
    """On a GPU auto is triton, and what was computed there before there was a choice was computed by torch."""
    found = {choice: cell(tiny_checkpoint, "model.device=cuda", f"attention={choice}") for choice in ("auto", "torch")}
    assert [found[choice].attention for choice in ("auto", "torch")] == ["triton", "torch"]
    before = {k: v for k, v in found["auto"].config.items() if k != "attention"}
    assert found["auto"].identity == read_cell(before).identity != found["torch"].identity
    assert found["auto"].prefix_key != found["torch"].prefix_key
