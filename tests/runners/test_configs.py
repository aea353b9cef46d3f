"""Every config of every group composes, builds, and says what it is for."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from mage.errors import UserError
from run import CONF
from runners.cell import read_cell
from runners.composition import compose_sweep
from runners.plan import is_dense, plan_sweep
from tasks.niah import NeedleInHaystack

GROUPS = ("method", "task", "decoding", "tracker")
CHOICES = [f"{group}={path.stem}" for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
SWEEPS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_first_line_says_what_it_is_for(path: Path) -> None:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("# @package")]
    assert lines[0].startswith("# ") and len(lines[0]) > 20


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_makes_a_cell(choice: str, tiny_checkpoint: Path) -> None:
    (config,) = compose_sweep([choice, f"model.path={tiny_checkpoint}"], CONF, multirun=False) or []
    cell = read_cell(config)
    group, name = choice.split("=")
    if group in ("method", "task", "decoding"):
        assert getattr(cell.labels, group) == name


@pytest.mark.parametrize("name", SWEEPS)
def test_every_experiment_makes_cells(name: str, tiny_checkpoint: Path) -> None:
    # One budget: the others differ in a number, and Hydra takes its time for each config.
    overrides = [f"+experiment={name}", "budget=32", f"model.path={tiny_checkpoint}"]
    configs = compose_sweep(overrides, CONF, multirun=True)
    assert configs is not None and len(configs) > 1
    plan = plan_sweep(configs)
    assert all(cell.settings.name == name for cell in plan.cells)
    # A field that dense lacks is swept by mage_refresh, which so cannot name it.
    assert bool(plan.added) == (name == "mage_refresh"), "an experiment names its dense reference"
    assert any(is_dense(cell) for cell in plan.cells)


def test_the_command_line_wins_over_an_experiment(tiny_checkpoint: Path) -> None:
    configs = compose_sweep(
        [
            "+experiment=demo",
            "task=niah",
            "method=mage,quest",
            "budget=16",
            "examples=3",
            f"model.path={tiny_checkpoint}",
        ],
        CONF,
        multirun=True,
    )
    assert [(c["method"]["name"], c["budget"], c["examples"]) for c in configs or []] == [
        ("mage", 16, 3),
        ("quest", 16, 3),
    ]


def test_dense_layers_is_one_knob(tiny_checkpoint: Path) -> None:
    configs = compose_sweep(["method=glob(*)", "dense_layers=3"], CONF, multirun=True) or []
    layers = {config["method"]["name"]: config["method"].get("dense_layers") for config in configs}
    assert layers.pop("dense") is None
    assert set(layers.values()) == {3}


def test_a_sweep_over_values_composes_what_single_runs_do(tiny_checkpoint: Path) -> None:
    swept = {
        "method": ["mage", "quest"],
        "budget": ["8", "0.5"],
        "method.page_size": ["4", "8"],
        "task.lengths": ["[128]", "[128,256]"],
        "runner.timeout_s": ["1.5", "null"],
    }
    together = compose_sweep([f"{key}={','.join(values)}" for key, values in swept.items()], CONF, multirun=True)
    alone = []
    for values in itertools.product(*swept.values()):
        overrides = [f"{key}={value}" for key, value in zip(swept, values, strict=True)]
        alone += compose_sweep(overrides, CONF, multirun=False) or []
    assert together == alone


def test_a_grid_of_one_value_needs_no_list(tiny_checkpoint: Path) -> None:
    overrides = ["task=niah", "task.lengths=2048", "task.depths=0.5", f"model.path={tiny_checkpoint}"]
    (config,) = compose_sweep(overrides, CONF, multirun=False) or []
    task = read_cell(config).task
    assert isinstance(task, NeedleInHaystack)
    assert task.lengths == (2048,) and task.depths == (0.5,)


def test_a_field_that_one_choice_lacks_is_refused(tiny_checkpoint: Path) -> None:
    with pytest.raises(UserError, match=r"method\.page_size is not a field"):
        compose_sweep(["method=mage,snapkv", "method.page_size=4,8"], CONF, multirun=True)
