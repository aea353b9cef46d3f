"""In blocks of one token a policy that fills has nothing to choose: all of them are one cell, that of `static`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from run import CONF, main
from runners.cell import OF_THE_SWEEP, Cell
from runners.command import command_line
from runners.composition import compose_sweep
from runners.identity import identity_of
from runners.sweeping.plan import plan_sweep
from runners.variants import Variants
from tests.runners.conftest import outcome

SINGLE = "model.block_size=1"
FILLING = {
    "static": (),
    "four a step": ("decoding.tokens_per_step=4",),
    "steps": ("decoding.steps=3",),
    "sub_block": ("decoding.sub_block=8",),
    "static_2": ("decoding=static_2",),
    "threshold": ("decoding=threshold",),
    "sure of nothing": ("decoding=threshold", "decoding.threshold=1.0", "decoding.at_least=2"),
    "sequential": ("decoding=sequential",),
    "entropy": ("decoding=entropy", "decoding.bound=0"),
}
MODELS = {
    "masked": (),
    "masked, causal": ("model.prefix_attention=causal",),
    "seeded": ("model.alignment=shifted",),
    "seeded, causal": ("model.alignment=shifted", "model.prefix_attention=causal"),
    "anchored": ("model.prefix_attention=causal", "model.anchored=true"),
}


@pytest.fixture
def fixed(small: list[str]) -> list[str]:
    """The overrides of `small` without a word about decoding, and of fewer examples."""
    kept = [override for override in small if not override.startswith(("decoding", "examples"))]
    return [*kept, "examples=2", "dense_reference=false"]


def planned(fixed: Sequence[str], *overrides: str) -> list[Cell]:
    return plan_sweep(compose_sweep([*fixed, *overrides], CONF, multirun=True)).cells


@pytest.mark.parametrize("model", MODELS)
def test_every_policy_that_fills_writes_the_same_in_as_many_forwards(
    model: str, fixed: list[str], tmp_path: Path
) -> None:
    line, found = [override for override in fixed if not override.startswith("output_dir=")], {}
    for policy, overrides in FILLING.items():
        folder = tmp_path / policy.replace(" ", "-")
        given = [f"output_dir={folder}", "method=mage", SINGLE, *MODELS[model], *overrides]
        assert command_line([*line, *given], CONF, main) == 0
        found[policy] = outcome(folder / "t")
    (cell,) = found["static"].values()
    assert cell["examples"] and cell["metrics"]
    for policy, told in found.items():
        assert told == found["static"], policy


@pytest.mark.parametrize("model", MODELS)
def test_they_are_the_cell_that_static_has_always_been(model: str, fixed: list[str]) -> None:
    (config,) = compose_sweep([*fixed, SINGLE, *MODELS[model]], CONF, multirun=False)
    used = {field: value for field, value in config.items() if field not in OF_THE_SWEEP}
    for overrides in FILLING.values():
        (cell,) = planned(fixed, SINGLE, *MODELS[model], *overrides)
        hashes = {"model_hash": cell.checkpoint.content_hash, "task_hash": cell.task_hash}
        assert cell.identity == identity_of(used, **hashes, uses_budget=True, attention="torch")
        assert cell.labels.decoding == "static" and "-static-" in cell.name
        assert cell.config["decoding"] == used["decoding"]


@pytest.mark.parametrize("model", MODELS)
def test_in_longer_blocks_each_is_a_cell_of_its_own(model: str, fixed: list[str]) -> None:
    cells = [planned(fixed, "model.block_size=2", *MODELS[model], *FILLING[policy])[0] for policy in FILLING]
    assert len({cell.identity for cell in cells}) == len(FILLING)


def test_a_policy_that_edits_looks_again_and_is_another_cell(fixed: list[str], out: Path) -> None:
    edit, static = planned(fixed, SINGLE, "decoding=edit,static")
    assert edit.identity != static.identity and edit.labels.decoding == "edit"
    assert command_line(["-m", *fixed, "method=dense", SINGLE, "decoding=edit,static"], CONF, main) == 0
    forwards = {told["labels"]["decoding"]: told["examples"][0]["forwards"] for told in outcome(out).values()}
    assert forwards["edit"]["exact"] > forwards["static"]["exact"], "it asks again until nothing changes"


def test_a_sweep_shows_one_name_for_them(fixed: list[str]) -> None:
    cells = planned(fixed, "method=mage", "model.block_size=1,32", "decoding=static_2,threshold")
    variants = Variants(cells)
    assert sorted(variants.title(cell) for cell in cells) == [
        "mage 16 niah decoding=static",
        "mage 16 niah decoding=static_2",
        "mage 16 niah decoding=threshold",
    ]


def test_a_sweep_computes_them_once(fixed: list[str], out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["method=dense", SINGLE, "decoding=static_2,threshold,entropy"]
    assert command_line(["-m", *fixed, *given], CONF, main) == 0
    assert "2 of the configs name a cell again, or differ in nothing that changes a result" in capsys.readouterr().out
    assert [told["labels"]["decoding"] for told in outcome(out).values()] == ["static"]
