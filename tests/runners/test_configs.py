"""Every config of every group composes, builds, and says what it is for."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hydra.core.config_loader import ConfigLoader

from mage.errors import UserError
from run import CONF
from runners import composition
from runners.building import build_task
from runners.cell import read_cell
from runners.composition import compose_sweep
from runners.settings import read_settings
from runners.sweeping.plan import is_dense, plan_sweep
from tasks.niah import NeedleInHaystack
from tests.runners.override_sets import SMALL_BODY, choices

SMALL = [f"{group}={name}" for group in ("method", "decoding", "tracker") for name in choices(group)]
SWEEPS = [name for name in choices("experiment") if "/" not in name]
LARGER = {"trained_positions": 8192, "body.max_position_embeddings": 8192, "body.num_hidden_layers": 3}
READER = (SMALL_BODY | LARGER).items()
NEEDS_HUB = ("longbench", "longbench_e", "longbench_v2", "ruler/qa_1", "ruler/qa_2")


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_first_line_says_what_it_is_for(path: Path) -> None:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("# @package")]
    assert lines[0].startswith("# ") and len(lines[0]) > 20


@pytest.mark.parametrize("choice", SMALL)
def test_every_choice_makes_a_cell(choice: str, tiny_checkpoint: Path) -> None:
    (config,) = compose_sweep([choice, f"model.weights={tiny_checkpoint}"], CONF, multirun=False)
    cell = read_cell(config)
    group, name = choice.split("=")
    if group != "tracker":
        assert getattr(cell.labels, group) == name


def test_every_task_builds_and_is_named_as_it_is_chosen(tiny_checkpoint: Path) -> None:
    names = choices("task")
    overrides = [f"task={','.join(names)}", f"model.weights={tiny_checkpoint}"]
    configs = compose_sweep(overrides, CONF, multirun=True)
    for name, config in zip(names, configs, strict=True):
        task = build_task(read_settings(config)[0])
        assert config["task"].get("name", task.name) == name
        if not name.startswith(NEEDS_HUB):
            assert read_cell(config).labels.task == name


def test_every_model_is_named_as_it_is_chosen() -> None:
    names = choices("model")
    configs = compose_sweep([f"model={','.join(names)}"], CONF, multirun=True)
    assert [read_settings(config)[0].model.name for config in configs] == names


@pytest.mark.parametrize("name", SWEEPS)
def test_every_experiment_makes_cells(name: str, tiny_checkpoint: Path) -> None:
    # One budget: the others differ in a number, and Hydra takes its time for each config.
    overrides = [f"+experiment={name}", "budget=32", f"model.weights={tiny_checkpoint}", "model.adapter=null"]
    if name == "demo_smollm2_135m_bd":  # asks in English
        overrides = [f"+experiment={name}", "budget=32", *(f"++model.{field}={value}" for field, value in READER)]
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
            f"model.weights={tiny_checkpoint}",
        ],
        CONF,
        multirun=True,
    )
    assert [(c["method"]["name"], c["budget"], c["examples"]) for c in configs or []] == [
        ("mage", 16, 3),
        ("quest", 16, 3),
    ]


def test_dense_layers_is_one_knob(tiny_checkpoint: Path) -> None:
    configs = compose_sweep(["method=glob(*)", "dense_layers=3"], CONF, multirun=True)
    layers = {config["method"]["name"]: config["method"].get("dense_layers") for config in configs}
    assert layers.pop("dense") is None
    assert set(layers.values()) == {3}


def assert_composed_as_single_runs(swept: dict[str, list[str]]) -> None:
    together = compose_sweep([f"{key}={','.join(values)}" for key, values in swept.items()], CONF, multirun=True)
    alone = []
    for values in itertools.product(*swept.values()):
        overrides = [f"{key}={value}" for key, value in zip(swept, values, strict=True)]
        alone += compose_sweep(overrides, CONF, multirun=False)
    assert together == alone


def test_a_sweep_over_values_composes_what_single_runs_do(tiny_checkpoint: Path) -> None:
    swept = {
        "method": ["mage", "quest"],
        "budget": ["8", "0.5"],
        "method.page_size": ["4", "8"],
        "task.lengths": ["[128]", "[128,256]"],
        "runner.timeout_s": ["1.5", "null"],
    }
    assert_composed_as_single_runs(swept)


def test_a_sweep_over_choices_composes_what_single_runs_do() -> None:
    swept = {
        "task": ["niah", "ruler/vt", "longbench/qasper"],
        "method": ["mage", "dense"],
        "decoding": ["static", "threshold"],
        "+experiment": ["ci", "niah_grid"],  # changes more than a group of its own
        "dense_layers": ["1", "3"],
    }
    assert_composed_as_single_runs(swept)


def test_only_what_hydra_refuses_is_composed_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    held = composition._held

    def note(overrides: list[str], loader: ConfigLoader) -> list[str]:
        asked.append(held(overrides, loader))
        return asked[-1]

    monkeypatch.setattr(composition, "_held", note)
    compose_sweep(["method=mage,quest", "method.page_size=4", "task.lengths=[128]"], CONF, multirun=True)
    assert asked == []
    swept = compose_sweep(["task=longbench/lcc,longbench/qasper", "task.data=here"], CONF, multirun=True)
    assert asked == [["task.data=here"]]
    assert [config["task"]["data"] for config in swept] == ["here"] * 2


def test_a_glob_reaches_into_the_folders_of_a_group() -> None:
    swept = compose_sweep(["task=glob(ruler/niah*,exclude=*multi*)", "method=glob(mage*)"], CONF, multirun=True)
    asked = {(config["task"]["name"], config["method"]["name"]) for config in swept}
    assert asked == {(f"ruler/niah_single_{i}", method) for i in (1, 2, 3) for method in ("mage", "mage_v1")}
    with pytest.raises(UserError, match="matches no choice of task"):
        compose_sweep(["task=glob(nothing*)"], CONF, multirun=True)


@pytest.mark.parametrize("override", ["model.chat.enable_thinking=false", "model.chat={enable_thinking: false}"])
def test_options_of_a_chat_template_need_no_plus(override: str) -> None:
    (alone,) = compose_sweep([override], CONF, multirun=False)
    swept = compose_sweep([override, "task=niah,kv_retrieval"], CONF, multirun=True)
    assert [config["model"]["chat"] for config in (alone, *swept)] == [{"enable_thinking": False}] * 3


def test_a_grid_of_one_value_needs_no_list(tiny_checkpoint: Path) -> None:
    overrides = ["task=niah", "task.lengths=2048", "task.depths=0.5", f"model.weights={tiny_checkpoint}"]
    (config,) = compose_sweep(overrides, CONF, multirun=False)
    task = read_cell(config).task
    assert isinstance(task, NeedleInHaystack)
    assert task.lengths == (2048,) and task.depths == (0.5,)


def test_a_field_that_one_choice_lacks_is_refused(tiny_checkpoint: Path) -> None:
    with pytest.raises(UserError, match=r"method\.page_size is not a field"):
        compose_sweep(["method=mage,snapkv", "method.page_size=4,8"], CONF, multirun=True)
