"""The recipes on smollm2_135m_bd compose, belong together, and each runs on a shrunken body with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.__main__ import main as analyse
from run import CONF, main
from runners.building import build_task
from runners.command import command_line
from runners.composition import compose_sweep
from runners.record import CellRecord
from runners.settings import read_settings

FOLDER = CONF / "experiment" / "smollm2"
RECIPES = [f"smollm2/{path.stem}" for path in sorted(FOLDER.glob("[!_]*.yaml"))]
DEMO = "demo_smollm2_135m_bd"
BASES = {"dense_ar": "dense", "ruler_ar": "ruler", "longbench_ar": "longbench", "chat_ar": "chat"}
BODY = {
    "vocab_size": 258,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 4096,
}
MODEL = {
    "weights": "random",
    "adapter": "null",
    "tokenizer": "bytes",
    "dtype": "float32",
    "threads": "1",
    "mask_id": "256",
    "stop_ids": "[257]",
    "trained_positions": "4096",
}
SHRUNK = [*(f"model.{k}={v}" for k, v in MODEL.items()), *(f"model.body.{k}={v}" for k, v in BODY.items())]
NEEDLES = ["task.lengths=[768]", "task.buffer=32"]
NARROW: dict[str, list[str]] = {
    "dense": ["task.lengths=640,768", "task.buffer=32"],
    "dense_ar": ["task.lengths=640,768", "task.buffer=32"],
    "ruler": [],
    "ruler_ar": [],
    "longbench": ["task.max_prompt_tokens=500", "task=longbench/hotpotqa"],
    "longbench_ar": ["task.max_prompt_tokens=500", "task=longbench/hotpotqa"],
    "chat": ["task.max_new_tokens=40"],
    "chat_ar": ["task.max_new_tokens=40"],
    "quest_aggregation": [*NEEDLES, "budget=32", "method.page_size=4", "method.recent_pages=1"],
    "refresh": [*NEEDLES, "budget=32", "decoding=static"],
    DEMO: [*NEEDLES, "budget=32", "method=dense,mage"],
    "snapkv_full": [*NEEDLES, "budget=0.5,1.0"],
    "recall": [*NEEDLES, "budget=32", "method.select_step=1,3", "method.refresh_every=0,4"],
    "evidence": [*NEEDLES, "budget=32"],
}


def composed(recipe: str, *overrides: str) -> list[dict[str, Any]]:
    return compose_sweep([f"+experiment={recipe}", *overrides], CONF, multirun=True)


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str], list[CellRecord]]:
    """Run a recipe in small and return its records."""

    def give(recipe: str) -> list[CellRecord]:
        own = NARROW.get(recipe.removeprefix("smollm2/"), [*NEEDLES, "budget=32"])
        small = [*SHRUNK, *own, "examples=1", "dense_layers=1", "tracker=none", f"output_dir={tmp_path}"]
        assert command_line(["-m", f"+experiment={recipe}", *small], CONF, main) == 0
        return [CellRecord.model_validate_json(path.read_bytes()) for path in tmp_path.glob("*/*/record.json")]

    return give


@pytest.mark.parametrize("recipe", [*RECIPES, DEMO])
def test_every_recipe_is_on_this_model_with_tasks_that_build(recipe: str) -> None:
    for config in composed(recipe):
        settings, _ = read_settings(config)
        assert settings.model.name == "smollm2_135m_bd" and settings.model.dtype == "bfloat16"
        assert build_task(settings).name
        assert settings.name.startswith("smollm2_") or settings.name == recipe
        if settings.task["name" if "name" in settings.task else "_target_"].endswith("KeyNeedles"):
            assert settings.task["split"] == "test"


@pytest.mark.parametrize("own", BASES)
def test_the_bases_own_writing_asks_the_same_under_the_same_name(own: str) -> None:
    written, compared = composed(f"smollm2/{own}"), composed(f"smollm2/{BASES[own]}")
    assert {config["model"]["block_size"] for config in written} == {1}
    assert {config["model"]["block_size"] for config in compared} == {32}
    tasks = [[config["task"] for config in configs] for configs in (written, compared)]
    assert all(task in tasks[1] for task in tasks[0]) and all(task in tasks[0] for task in tasks[1])
    for field in ("name", "examples", "seed"):
        assert {config[field] for config in written} == {config[field] for config in compared}
    assert {c["runner"]["likelihood"] for c in written} == {c["runner"]["likelihood"] for c in compared}


def test_the_demo_measures_recall_too() -> None:
    configs = composed(DEMO, "runner=recall", "method=mage,quest", "budget=128", "examples=10")
    assert [(c["method"]["name"], c["runner"]["name"], c["examples"]) for c in configs] == [
        ("mage", "recall", 10),
        ("quest", "recall", 10),
    ]
    assert all("batch_size" not in config["runner"] for config in configs)


def test_what_is_observed_of_the_evidence_is_also_answered() -> None:
    """The report pairs the two by model, task, decoding, method and budget, and by example."""
    answered, observed = composed("smollm2/budget"), composed("smollm2/evidence")
    for field in ("model", "task", "decoding", "seed", "examples"):
        (of_answers,), (of_recall,) = ([*{repr(c[field]) for c in configs}] for configs in (answered, observed))
        assert of_answers == of_recall
    methods = [{(c["budget"], repr(c["method"])) for c in configs} for configs in (answered, observed)]
    once = {(budget, method) for budget, method in methods[1] if "'refresh_every': 0" in method}
    assert len(once) == 4 and once < methods[0]


@pytest.mark.parametrize("recipe", [*RECIPES, DEMO])
def test_every_recipe_runs_in_small_and_makes_a_report(
    recipe: str, run: Callable[[str], list[CellRecord]], tmp_path: Path
) -> None:
    found = run(recipe)
    assert {record.status for record in found} == {"done"}
    assert ("answer_perplexity" in found[0].metrics) == recipe.startswith("smollm2/chat")
    (experiment,) = (folder for folder in tmp_path.iterdir() if folder.is_dir())
    assert analyse([str(experiment)]) == 0
    assert (experiment / "analysis" / "report.html").stat().st_size
