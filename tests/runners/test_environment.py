"""What a record says of where it was computed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import runners.environment
from runners.environment import describe, git_state
from tests.runners.conftest import records


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one committed file."""
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / "old.py").write_text("")
    author = ["-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["init"], ["add", "."], [*author, "commit", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True, capture_output=True)
    monkeypatch.setattr(runners.environment, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "dirty"),
    [
        ("baselines/old.py", True),
        ("baselines/new.py", True),
        ("conf/method/new.yaml", True),
        ("notes.py", False),
        ("baselines/notes.md", False),
    ],
)
def test_a_changed_file_or_a_new_source_is_a_change(name: str, dirty: bool, tree: Path) -> None:
    state = git_state.__wrapped__
    assert state()[1] is False
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_text("x = 1\n")
    assert state()[1] is dirty


def test_threads_are_set_and_recorded(run: Callable[..., int], out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: asked[-1] if asked else before)
    assert run("method=dense", "model.threads=3", "examples=1") == 0
    assert asked == [3] and records(out)["dense-all"].environment.threads == 3
    asked.clear()
    assert run("method=dense", "model.threads=null", "examples=2") == 0
    assert asked == [before]


@pytest.mark.parametrize(
    ("device", "capture", "told"), [("cuda", True, True), ("cuda", False, False), ("cpu", True, False)]
)
def test_graphs_are_told_of_where_there_could_be_some(device: str, capture: bool, told: bool) -> None:
    assert describe(torch.device(device), "", "torch", capture=capture).capture is told
