"""runner=fetch brings and checks what models need, prints a line for each, and writes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mage.models.checkpoint import load_model
from tests.conftest import spec
from tests.mage.adapters import random_adapter
from tests.runners.conftest import write_tiny_checkpoint


def test_a_line_for_each_model_and_nothing_else(
    run: Callable[..., int], tiny_checkpoint: Path, tmp_path: Path, out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = write_tiny_checkpoint(tmp_path / "other")
    size = (other / "model.safetensors").stat().st_size / 1e6
    assert run("-m", "runner=fetch", f"model.weights={tiny_checkpoint},{other}") == 0
    printed = capfd.readouterr()
    assert printed.out.splitlines() == [f"tiny: {place} ({size:.1f} MB)" for place in (tiny_checkpoint, other)]
    assert printed.err == "" and not out.exists()


def test_the_adapter_is_checked_and_told(
    run: Callable[..., int], tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    random_adapter(load_model(tiny_checkpoint, spec()).body).write(tmp_path / "a", torch.float32, "base")
    size = (tmp_path / "a" / "adapter_model.safetensors").stat().st_size / 1e6
    chosen = ["runner=fetch", f"model.adapter={tmp_path / 'a'}", "model.prefix_attention=causal"]
    assert run(*chosen) == 0
    assert capfd.readouterr().out.endswith(f", adapter {tmp_path / 'a'} ({size:.1f} MB)\n")
    damaged = shutil.copytree(tmp_path / "a", tmp_path / "damaged")
    (damaged / "adapter_config.json").write_text("{}")
    assert run(*chosen, f"model.adapter={damaged}") == 2
    assert "adapter_config.json: peft_type=(missing) is not supported" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.weights=nowhere"], "model.weights=nowhere: no such checkpoint folder"),
        (["model.mask_id=99999"], "model.mask_id=99999 is outside the vocabulary"),
        (["model.adapter=conf"], "model.prefix_attention=block_causal with model.adapter"),
        (["+runner.x=1"], "runner.x is not a field"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_in_one_line(
    overrides: list[str], words: str, run: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("runner=fetch", *overrides) == 2
    printed = capfd.readouterr()
    assert words in printed.err and len(printed.err.splitlines()) == 1 and printed.out == ""


def test_a_device_that_is_not_here_is_no_obstacle(run: Callable[..., int]) -> None:
    assert run("runner=fetch", "model.device=cuda:99") == 0
