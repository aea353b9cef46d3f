"""Cells of a model with an adapter: it reaches the denoising steps, and blocks of one token do without it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from mage.models.checkpoint import load_model
from tests.conftest import spec
from tests.mage.adapters import random_adapter


def answers(folder: Path) -> list[str]:
    """The predictions of the only cell of an experiment."""
    (file,) = folder.glob("*/examples.jsonl")
    return [json.loads(line)["prediction"] for line in file.read_text().splitlines()]


def test_an_adapter_decides_the_denoising_steps_alone(
    run: Callable[..., int], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    random_adapter(load_model(tiny_checkpoint, spec()).body).write(tmp_path / "a", torch.float32, "base")
    causal = ["method=dense", "model.prefix_attention=causal", "model.alignment=shifted", f"output_dir={tmp_path}"]
    for size in (32, 1):
        for adapter in ("null", tmp_path / "a"):
            name = f"name=b{size}{'' if adapter == 'null' else 'a'}"
            assert run(*causal, name, f"model.block_size={size}", f"model.adapter={adapter}") == 0
    assert answers(tmp_path / "b1") == answers(tmp_path / "b1a")
    assert answers(tmp_path / "b32") != answers(tmp_path / "b32a")
