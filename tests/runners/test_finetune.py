"""runner=finetune: three steps on the embedded model through the command line, resumed, refused, evaluated, tracked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mage.models.checkpoint import load_model
from mage.models.diffusion import DiffusionSpec
from mage.training.trainer import Progress
from run import CONF
from runners.command import command_line
from tests.runners.conftest import last_of_each
from tests.runners.test_tracker import offline_runs

SMALL = (
    "runner.schedule.steps=3",
    "runner.shapes=[{length:64,rows:1,branches:2}]",
    "runner.save_every=1",
    "runner.log_every=1",
    "runner.label=small",
    "runner.evaluation.examples=1",
    "runner.evaluation.tasks.pointer_chase={lengths:[128],chains:1,hops:1}",
    "~runner.evaluation.tasks.multi_value",
)


NIAH = ("task.lengths=[128]", "task.needles=2", "task.asked=1")


def _tune(folder: Path, *overrides: str) -> int:
    command = [
        "runner=finetune",
        "+experiment=finetune/tiny",
        f"output_dir={folder}",
        *SMALL,
        "tracker=none",
        *overrides,
    ]
    return command_line(last_of_each(command), CONF, lambda: None)


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    spec = DiffusionSpec(block_size=32, mask_id=1, stop_ids=(2,))
    return dict(load_model(folder / "finetune_tiny" / "small" / "checkpoint", spec).body.state_dict())


def test_a_run_leaves_a_checkpoint_that_is_evaluated_like_any(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _tune(tmp_path, "tracker=wandb") == 0
    told = capsys.readouterr().out
    assert "exact match: pointer_chase dense" in told and "pointer_chase mage" in told
    folder = tmp_path / "finetune_tiny" / "small"
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert row["loss"] == pytest.approx(row["cross_entropy"] + row["divergence"], rel=1e-5)
    (curves,) = offline_runs(tmp_path).values()
    assert (curves.name, curves.group, curves.exit_code) == ("small", "finetune_tiny", 0)
    assert [point["_step"] for point in curves.history] == [1, 2, 3]
    for point, row in zip(curves.history, rows, strict=True):
        assert point["train/cross_entropy"] == pytest.approx(row["cross_entropy"])
    assert curves.history[-1]["exact_match/pointer_chase mage"] == rows[-1]["exact_match"]["pointer_chase mage"]
    evaluate = [f"output_dir={tmp_path}", f"model.weights={folder / 'checkpoint'}", "examples=1", "tracker=none"]
    assert command_line([*evaluate, "method=mage", "task=niah", *NIAH], CONF, lambda: None) == 0


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _tune(tmp_path / "whole") == 0

    from runners import training

    shown = training.TrainingDisplay.advance

    def interrupt(self: object, standing: Progress, trainer: object) -> None:
        if standing.step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training.TrainingDisplay, "advance", interrupt)
    assert _tune(tmp_path / "cut") == 130
    monkeypatch.setattr(training.TrainingDisplay, "advance", shown)
    assert _tune(tmp_path / "cut") == 0
    whole, cut = _tensors(tmp_path / "whole"), _tensors(tmp_path / "cut")
    assert all(torch.equal(cut[name], whole[name]) for name in whole)
    assert _tune(tmp_path / "cut", "budget=16") == 2


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("runner.kl_weight=-1.0", "runner.kl_weight=-1.0"),
        ("runner.objective=spares", "objective"),
        ("runner.change.rank=0", "runner.change.rank=0"),
        ("runner.change.frozen_layers=6", "Allowed: 0 to 5"),
        ("runner.change.scope=block", "runner.change.weights=lowrank"),
        ("runner.schedule.steps=0", "schedule.steps=0"),
        ("runner.shapes=[{length:72,rows:1,branches:2}]", "length=72"),
        ("runner.label=a/b", "runner.label=a/b"),
        ("model.dtype=bfloat16", "Allowed: float32"),
        ("method=quest", "Allowed: mage"),
        ("method=dense", "Allowed: mage"),
        ("runner.source.block=3", "runner.source.block"),
    ],
)
def test_slips_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, told: str
) -> None:
    assert _tune(tmp_path, override) == 2
    refused = capsys.readouterr().err
    assert told in refused and refused.count("\n") == 1
    assert not list(tmp_path.iterdir())
