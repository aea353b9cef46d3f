"""The recipes of the paper's tables compose, and each runs in small."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from analysis.__main__ import main as analyse
from run import CONF, main
from runners.building import build_task
from runners.command import command_line
from runners.composition import compose_sweep
from runners.record import CellRecord
from runners.settings import read_settings

PAPER, SMOKE = (CONF / "experiment" / folder for folder in ("paper", "smoke"))
RECIPES = sorted(path.stem for path in PAPER.glob("*.yaml"))


def params(path: Path) -> dict[str, list[str]]:
    """What a recipe sweeps over, by field."""
    swept: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(path))["hydra"]["sweeper"]["params"]
    return {field: [value.strip() for value in str(values).split(",")] for field, values in swept.items()}


def kinds(tasks: list[str]) -> set[str]:
    return {task.partition("/")[0] for task in tasks}


def covering(recipe: str, seen: set[tuple[str, str]]) -> Iterator[list[str]]:
    """Overrides that name every value of a recipe at least once, less those that are in `seen`."""
    swept = params(PAPER / f"{recipe}.yaml")
    for index in range(max(map(len, swept.values()))):
        chosen = {field: values[index % len(values)] for field, values in swept.items()}
        if not set(chosen.items()) <= seen:
            seen |= set(chosen.items())
            yield [f"+experiment=paper/{recipe}", *(f"{field}={value}" for field, value in chosen.items())]


def test_every_recipe_composes_with_every_value_that_it_sweeps() -> None:
    seen: set[tuple[str, str]] = set()
    for recipe in RECIPES:
        for overrides in covering(recipe, seen):
            (config,) = compose_sweep(overrides, CONF, multirun=True)
            settings, _ = read_settings(config)
            assert build_task(settings).name
            assert settings.name.startswith("paper_")


def test_the_command_line_wins_over_a_recipe() -> None:
    overrides = ["+experiment=paper/longbench_v2", "model=sdar_4b", "task=ruler/vt", "method=mage", "budget=64,0.05"]
    configs = compose_sweep(overrides, CONF, multirun=True)
    chosen = [(c["model"]["name"], c["task"]["name"], c["method"]["name"], c["budget"]) for c in configs]
    assert chosen == [("sdar_4b", "ruler/vt", "mage", 64), ("sdar_4b", "ruler/vt", "mage", 0.05)]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_states_what_it_stands_for_and_what_it_needs(recipe: str) -> None:
    text = (PAPER / f"{recipe}.yaml").read_text(encoding="utf-8")
    comment = " ".join(line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("# "))
    for part in ("Model", "Method", "Budgets: ", "Decoding: ", "Hardware: ", "Not run yet. Estimate, "):
        assert part in comment
    for field, values in params(PAPER / f"{recipe}.yaml").items():
        if field in ("model", "method"):
            assert [value for value in values if value not in comment] == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_has_a_small_twin_of_the_same_methods_options_and_kinds_of_task(recipe: str) -> None:
    large, own = params(PAPER / f"{recipe}.yaml"), params(SMOKE / f"{recipe}.yaml")
    small = large | own
    assert f"paper/{recipe}" in OmegaConf.load(SMOKE / f"{recipe}.yaml").defaults
    assert kinds(small["task"]) == kinds(large["task"])
    assert small.keys() == large.keys()
    same = small.keys() - {"model", "task", "budget", "dense_layers"}
    assert {field: small[field] for field in same} == {field: large[field] for field in same}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_twin_runs_and_makes_a_report(recipe: str, tmp_path: Path) -> None:
    assert command_line(["-m", f"+experiment=smoke/{recipe}", f"output_dir={tmp_path}"], CONF, main) == 0
    (experiment,) = (folder for folder in tmp_path.iterdir() if folder.is_dir())
    records = [CellRecord.model_validate_json(path.read_bytes()) for path in experiment.glob("*/record.json")]
    assert {record.status for record in records} == {"done"}
    swept = params(PAPER / f"{recipe}.yaml")
    assert {record.labels.method for record in records} >= set(swept.get("method", ["mage"]))
    assert analyse([str(experiment)]) == 0
    assert (experiment / "analysis" / "report.html").stat().st_size
