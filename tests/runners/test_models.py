"""Every checkpoint of conf/model runs: its body at random and shrunk, through the whole command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mage.errors import UserError
from run import CONF, main
from runners.cell import Cell, read_cell
from runners.command import command_line
from runners.composition import compose_sweep
from runners.feasibility import check_feasible
from tests.runners.conftest import records

MODELS = sorted(
    path.stem for path in (CONF / "model").glob("*.yaml") if not path.stem.startswith("_") and path.stem != "tiny"
)
SHRUNK = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_group": 4,
    "topk_group": 2,
    "expert_capacity": 4,
}


def shrunk(model: str) -> list[str]:
    """Overrides for a random body of the model's kind that takes milliseconds."""
    (config,) = compose_sweep([f"model={model}"], CONF, multirun=False)
    body = config["model"]["body"]
    fields = [f"model.body.{key}={value}" for key, value in SHRUNK.items() if key in body]
    # An adapter fits the body that it was trained for.
    return [
        f"model={model}",
        "model.weights=random",
        "model.adapter=null",
        "model.device=cpu",
        "model.dtype=float32",
        *fields,
    ]


@pytest.fixture
def run_model(tmp_path: Path) -> Callable[..., int]:
    """Run a model on one short English example; returns the exit status. Results go to tmp_path / "t"."""

    def give(*overrides: str) -> int:
        fixed = ["task=niah", "task.language=english", "task.lengths=[64]", "task.needles=1", "task.asked=1"]
        small = ["examples=1", "method=dense", "decoding.tokens_per_step=8", "tracker=none", "model.threads=1"]
        return command_line([*fixed, *small, f"output_dir={tmp_path}", "name=t", *overrides], CONF, main)

    return give


@pytest.mark.parametrize("model", MODELS)
def test_every_model_of_the_configs_generates(
    model: str, run_model: Callable[..., int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_model(*shrunk(model)) == 0, capfd.readouterr()
    (record,) = records(tmp_path / "t").values()
    assert record.labels.model == model and record.status == "done"
    assert record.metrics["generated_tokens"] >= 1


@pytest.mark.parametrize("model", MODELS)
def test_a_model_is_named_like_its_file(model: str) -> None:
    (config,) = compose_sweep([f"model={model}"], CONF, multirun=False)
    assert config["model"]["name"] == model


def cell(*overrides: str, task: str = "task=niah") -> Cell:
    configs = compose_sweep([*shrunk("sdar_8b_b32"), task, *overrides], CONF, multirun=False)
    return read_cell((configs or [])[0])


@pytest.mark.parametrize(
    ("overrides", "positions", "extended"),
    [
        ([], 32768, ""),
        (["model.yarn=4"], 131072, "YaRN x4"),
        (["model.yarn=1.5", "model.trained_positions=2048"], 3072, "YaRN x1.5"),
        (["model.trained_positions=512"], 32768, "untrained positions"),
        (["model.trained_positions=512", "task.lengths=[512]"], 32768, ""),
    ],
    ids=str,
)
def test_positions_beyond_the_trained_ones_are_marked(overrides: list[str], positions: int, extended: str) -> None:
    found = cell(*overrides)
    assert found.checkpoint.config.max_positions == positions
    assert found.labels.extended == extended


def test_a_task_of_unknown_length_may_fill_all_positions() -> None:
    task = "task=longbench/hotpotqa"
    assert cell("model.trained_positions=2048", "task.data=sample", task=task).labels.extended == "untrained positions"
    fields = ("model.trained_positions=2048", "task.data=sample", "task.max_prompt_tokens=2000")
    assert cell(*fields, task=task).labels.extended == ""


@pytest.mark.parametrize(
    "override",
    [
        "model.body.num_hidden_layers=3",
        "model.yarn=2",
        "model.tokenizer=bytes",
        "model.trained_positions=2048",
        "model.body.rope_theta=5e5",
        "model.chat={a: 1}",
        "model.anchored=true",
    ],
)
def test_what_makes_another_model_makes_another_identity(override: str) -> None:
    changed = override.replace("model.chat={a: 1}", "+model.chat.a=1")
    changes = [changed, *(["model.mask_id=300", "model.stop_ids=[301]"] if "bytes" in override else [])]
    assert cell(*changes).identity != cell(*changes[1:]).identity


@pytest.mark.parametrize(
    "override",
    ["model.trained_positions=null", "model.trained_positions=32768", "+model.body.torch_dtype=bfloat16"],
)
def test_how_the_same_body_is_written_is_no_part_of_its_identity(override: str) -> None:
    assert cell(override).identity == cell().identity


def test_the_window_that_yarn_stretches_is_part_of_the_identity() -> None:
    assert cell("model.yarn=2").identity == cell("model.yarn=2", "model.trained_positions=null").identity
    assert cell("model.yarn=2").identity != cell("model.yarn=2", "model.trained_positions=2048").identity


def test_the_day_of_the_chat_is_part_of_the_identity() -> None:
    assert cell("+model.chat.date=2026-03-09").identity != cell().identity


def test_experts_that_are_chosen_by_block_need_blocks_of_that_size() -> None:
    def routed(*overrides: str) -> Cell:
        fixed = [*shrunk("llada2_2_mini"), "task=niah", "method=dense"]
        configs = compose_sweep([*fixed, *overrides], CONF, multirun=False)
        return read_cell((configs or [])[0])

    check_feasible(routed())
    check_feasible(routed("model.block_size=16", "model.body.block_size=16"))
    with pytest.raises(UserError, match=r"model\.block_size=16: .* block_size=32\)\. Allowed: 32\.$"):
        check_feasible(routed("model.block_size=16"))


def test_where_a_model_comes_from_is_no_part_of_its_identity() -> None:
    assert cell("model.revision=main").identity == cell().identity == cell("model.tokenizer=qwen").identity
