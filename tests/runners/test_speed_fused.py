"""The speed suite with commits that are one forward with the next block's first step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mage.timing import roofs
from runners import speed_matrix
from runners.speed_suite import main

SMALL = """# A small body.
name: small
block_size: 4
mask_id: 60
stop_ids: [59]
alignment: {alignment}
body:
  model_type: qwen3
  vocab_size: 300
  rms_norm_eps: 1e-6
  rope_theta: 1e6
  hidden_size: 32
  intermediate_size: 64
  num_hidden_layers: 3
  num_attention_heads: 4
  num_key_value_heads: 2
  head_dim: 16
  max_position_embeddings: 64
"""


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofs, "SECONDS", 0.01)
    monkeypatch.setitem(roofs.COPY_BYTES, "cpu", 2**22)
    monkeypatch.setattr(speed_matrix.SpeedMatrix, "_kernels", lambda *_: None)


def arguments(folder: Path, alignment: str) -> list[str]:
    (folder / "model").mkdir()
    (folder / "model" / "small.yaml").write_text(SMALL.format(alignment=alignment))
    shape = ["--models", "small", "--contexts", "64", "--batches", "1", "--block-size", "8", "--budget", "32"]
    placed = ["--device", "cpu", "--dtype", "float32", "--rounds", "1", "--conf", str(folder)]
    return ["--out", str(folder / "out"), *shape, *placed]


def test_fused_and_plain_points_lie_beside_each_other(tmp_path: Path) -> None:
    given = arguments(tmp_path, "same")
    assert main(given) == main([*given, "--fuse-commit"]) == 0
    found = {}
    for path in (tmp_path / "out").glob("*/record.json"):
        record = json.loads(path.read_text())
        found[record["labels"]["method"], record["config"]["fuse_commit"]] = record["metrics"]
    assert len(found) == 4
    for (method, fused), metrics in found.items():
        assert metrics["dense_commit_forwards_per_block"] == (not fused)
        assert metrics["commit_forwards_per_block"] == (not fused or method == "quest")


def test_a_model_whose_commits_cannot_be_fused_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments(tmp_path, "shifted"), "--fuse-commit"]) == 2
    told = capsys.readouterr().err
    assert "model.alignment=shifted" in told and len(told.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
