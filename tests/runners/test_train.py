"""runner=train: a small recipe through the command line, stopped and resumed, and the checkpoint it leaves."""

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

SMALL = (
    "runner.body={hidden_size:32,intermediate_size:16,num_layers:3,head_dim:16,max_positions:512}",
    "runner.structure.source_width=4",
    "runner.stages=[{shapes:[{length:64,rows:1,branches:2}],steps:4}]",
    "runner.save_every=2",
    "runner.log_every=1",
    "runner.threads=1",
    "runner.evaluation.every=3",
    "runner.evaluation.examples=1",
    "runner.evaluation.tasks.niah={lengths:[64],needles:2,asked:1}",
    *(f"~runner.evaluation.tasks.{name}" for name in ("multi_value", "pointer_chase", "aggregation", "kv_retrieval")),
)


def _train(folder: Path, *overrides: str) -> int:
    command = ["runner=train", "+experiment=train/tiny", "tracker=none", f"output_dir={folder}", *SMALL, *overrides]
    return command_line(last_of_each(command), CONF, lambda: None)


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    spec = DiffusionSpec(block_size=32, mask_id=1, stop_ids=(2,))
    return dict(load_model(folder / "train_tiny" / "checkpoint", spec).body.state_dict())


def test_train_leaves_a_checkpoint_and_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _train(tmp_path) == 0
    told = capsys.readouterr().out
    assert "from the start" in told
    assert "exact match: niah" in told
    config = json.loads((tmp_path / "train_tiny" / "checkpoint" / "config.json").read_text())
    assert config["model_type"] == "qwen3"
    assert all(tensor.isfinite().all() for tensor in _tensors(tmp_path).values())
    rows = [json.loads(line) for line in (tmp_path / "train_tiny" / "train.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert [row["step"] for row in rows if row["exact_match"]] == [3, 4]


def test_stopped_training_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _train(tmp_path / "whole") == 0

    from runners import training

    shown = training.TrainingDisplay.advance

    def interrupt(self: object, standing: Progress, trainer: object) -> None:
        if standing.step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(training.TrainingDisplay, "advance", interrupt)
    assert _train(tmp_path / "cut") == 130
    monkeypatch.setattr(training.TrainingDisplay, "advance", shown)
    assert _train(tmp_path / "cut") == 0
    whole, cut = _tensors(tmp_path / "whole"), _tensors(tmp_path / "cut")
    assert all(torch.equal(cut[name], whole[name]) for name in whole)
    logs = [(tmp_path / run / "train_tiny" / "train.jsonl").read_text().splitlines() for run in ("whole", "cut")]
    losses = [[json.loads(line)["loss"] for line in log] for log in logs]
    assert losses[0] == losses[1]


def test_a_folder_with_another_recipe_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _train(tmp_path) == 0
    assert _train(tmp_path, "seed=1") == 2
    assert "another seed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("runner.stagess=[]", "Did you mean runner.stages"),
        ("runner.stages=[{shapes:[{length:64,rows:1,branches:2}],steps:many}]", "runner.stages"),
        ("runner.stages=[{shapes:[{length:72,rows:1,branches:2}],steps:3}]", "length=72"),
        ("runner.stages=[{shapes:[],steps:3}]", "0 shapes"),
        ("runner.checkpoint_dtype=int8", "checkpoint_dtype"),
        ("runner.evaluation.decoding.tokens_per_step=0", "tokens_per_step"),
        ("runner.evaluation.tasks.niah.needles=0", "needles"),
    ],
)
def test_slips_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, told: str
) -> None:
    assert _train(tmp_path, override) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
