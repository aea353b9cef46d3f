"""One owner at a time; a dead owner's lock is free."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from runners.lock import LOCK_NAME, LockedError, locked
from tests.runners.processes import fork


def hold(folder: Path) -> int:
    with locked(folder):
        (folder / "held").touch()
        signal.pause()
    return 0


def held_by_a_child(folder: Path) -> int:
    child = fork(lambda: hold(folder))
    while not (folder / "held").exists():
        time.sleep(0.001)
    assert child.pid is not None
    return child.pid


def test_a_held_lock_is_refused_by_its_owner_s_name(tmp_path: Path) -> None:
    pid = held_by_a_child(tmp_path)
    try:
        with pytest.raises(LockedError, match=str(pid)), locked(tmp_path):
            pass
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_dead_owner_s_lock_is_taken_over(tmp_path: Path) -> None:
    pid = held_by_a_child(tmp_path)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == pid
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
    assert not (tmp_path / LOCK_NAME).exists()


def test_a_lock_is_released_by_an_exception(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path):
        pass


def test_a_dead_owner_in_another_container_is_taken_over_at_once(tmp_path: Path) -> None:
    path = tmp_path / LOCK_NAME
    path.write_text(json.dumps({"pid": 1, "host": "another"}))
    with locked(tmp_path):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_the_folder_is_made(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / LOCK_NAME).exists()
