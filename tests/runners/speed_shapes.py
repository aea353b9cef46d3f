"""A small body for the tests of the speed suite, the command line that times it on a CPU, and what goes wrong there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mage.timing import roofs
from mage.timing.workload import Workload
from runners import speed_bench, speed_matrix

BASE = """# What small bodies share.
block_size: 4
mask_id: 60
stop_ids: [59]
alignment: shifted
body:
  model_type: qwen3
  vocab_size: 300
  rms_norm_eps: 1e-6
  rope_theta: 1e6
"""
SMALL = """# A small body.
defaults: [_base, _self_]
name: small
body:
  hidden_size: 32
  intermediate_size: 64
  num_hidden_layers: 3
  num_attention_heads: 4
  num_key_value_heads: 2
  head_dim: 16
  max_position_embeddings: 64
"""


def command(folder: Path, base: str = BASE, small: str = SMALL) -> list[str]:
    """Write the choices of a model below `folder`; return arguments for two contexts of it in two batches."""
    (folder / "model").mkdir()
    for name, text in {"_base": base, "small": small}.items():
        (folder / "model" / f"{name}.yaml").write_text(text)
    shape = ["--models", "small", "--contexts", "128,64", "--batches", "1,2", "--block-size", "8", "--budget", "32"]
    placed = ["--device", "cpu", "--dtype", "float32", "--rounds", "2", "--conf", str(folder)]
    return ["--out", str(folder / "out"), *shape, *placed]


def written(folder: Path) -> list[dict[str, Any]]:
    """The records that the suite left below `folder`, by name."""
    return [json.loads(path.read_text()) for path in sorted((folder / "out").glob("*/record.json"))]


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What the suite says at its end."""
    told: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return told


def quick_roofs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure roofs in no time."""
    monkeypatch.setattr(roofs, "SECONDS", 0.01)
    monkeypatch.setitem(roofs.COPY_BYTES, "cpu", 2**22)


def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure roofs in no time, and no kernels."""
    quick_roofs(monkeypatch)
    monkeypatch.setattr(speed_matrix.SpeedMatrix, "_kernels", lambda *_: None)


def failing(monkeypatch: pytest.MonkeyPatch, where: Callable[[Workload], bool], problem: Exception) -> None:
    """Let contests fail on some workloads."""
    measure = speed_bench.measure

    def measured(*given: Any, **options: Any) -> Any:
        if where(given[4]):
            raise problem
        return measure(*given, **options)

    monkeypatch.setattr(speed_bench, "measure", measured)
