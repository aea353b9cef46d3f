"""The speed suite on a GPU, where there may be little more than torch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from runners.speed_suite import main
from tests.runners.speed_shapes import SMALL, command, written

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SHAPE = ["--contexts", "2048,1024", "--block-size", "32", "--budget", "256", "--device", "cuda", "--dtype", "bfloat16"]


@pytest.mark.parametrize("attention", ["triton", "torch"])
def test_it_runs_kernels_and_graphs(attention: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*command(tmp_path, small=SMALL.replace("head_dim: 16", "head_dim: 64")), *SHAPE]
    assert main([*arguments, "--attention", attention]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["status"] == {"done": 6} and not told["wrong"] and not told["skipped"]
    records = written(tmp_path)
    assert len(records) == 6 and {record["environment"]["attention"] for record in records} == {attention}
    assert all(record["metrics"]["dense_block_peak_memory_bytes"] > 0 for record in records)
    if attention == "triton":
        for record in records:
            path = tmp_path / "out" / record["name"] / "examples.jsonl"
            rounds = [json.loads(line)["conditions"] for line in path.read_text().splitlines()]
            assert all(conditions["captured"] and conditions["dense_captured"] for conditions in rounds)


def test_commits_are_fused(tmp_path: Path) -> None:
    small = SMALL.replace("head_dim: 16", "head_dim: 64") + "alignment: same\n"
    assert main([*command(tmp_path, small=small), *SHAPE, "--fuse-commit", "--batches", "2"]) == 0
    for record in written(tmp_path):
        assert record["status"] == "done" and record["metrics"]["dense_commit_forwards_per_block"] == 0
