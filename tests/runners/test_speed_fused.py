"""The speed suite with commits that are one forward with the next block's first step."""

from __future__ import annotations

from pathlib import Path

import pytest

from runners.speed_suite import main
from tests.runners.speed_shapes import BASE, command, without_kernels, written


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    without_kernels(monkeypatch)


def arguments(folder: Path, alignment: str) -> list[str]:
    given = command(folder, base=BASE.replace("shifted", alignment))
    return [*given, "--contexts", "64", "--batches", "1", "--rounds", "1"]


def test_fused_and_plain_points_lie_beside_each_other(tmp_path: Path) -> None:
    given = arguments(tmp_path, "same")
    assert main(given) == main([*given, "--fuse-commit"]) == 0
    found = {(r["labels"]["method"], r["config"]["fuse_commit"]): r["metrics"] for r in written(tmp_path)}
    assert len(found) == 4
    for (method, fused), metrics in found.items():
        assert metrics["dense_commit_forwards_per_block"] == (not fused)
        assert metrics["commit_forwards_per_block"] == (not fused or method == "quest")


def test_a_model_whose_commits_cannot_be_fused_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments(tmp_path, "shifted"), "--fuse-commit"]) == 2
    told = capsys.readouterr().err
    assert "model.alignment=shifted" in told and len(told.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
