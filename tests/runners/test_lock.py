"""One owner at a time; a dead owner's lock is free."""

from __future__ import annotations

import errno
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import runners.store.lock
from runners.store.lock import LOCK_NAME, LockedError, holder, locked
from tests.runners.processes import end, held_by_a_child


def test_a_held_lock_is_refused_by_its_owner_s_name(tmp_path: Path) -> None:
    pid = held_by_a_child(tmp_path)
    try:
        with pytest.raises(LockedError, match=str(pid)), locked(tmp_path):
            pass
    finally:
        end(pid)


def test_a_dead_owner_s_lock_is_taken_over(tmp_path: Path) -> None:
    pid = held_by_a_child(tmp_path)
    end(pid)
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


def test_many_locks_are_held_at_once(tmp_path: Path) -> None:
    with ExitStack() as held:
        for number in range(128):
            held.enter_context(locked(tmp_path / str(number)))
        with pytest.raises(LockedError, match=str(os.getpid())), locked(tmp_path / "127"):
            pass
    assert not list(tmp_path.glob("*/*"))


@pytest.mark.parametrize("looks", [1, 2])
def test_a_lock_that_its_owner_removes_as_it_is_looked_at_is_taken(
    looks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, seen = os.stat, []

    def removing(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if str(path).endswith(f"/{LOCK_NAME}"):
            seen.append(path)
            if len(seen) == looks:
                os.unlink(path)
        return look(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", removing)
    with locked(tmp_path):
        monkeypatch.undo()
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
    assert seen


@pytest.mark.parametrize(
    ("options", "name"), [("rw,local_lock=none", "lock"), ("rw,local_lock=all", "lease-1"), ("localflock", "lease-1")]
)
def test_a_lock_that_other_machines_do_not_see_is_a_lease(
    options: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"36 35 {number} / /data rw,noatime shared:1 - nfs4 server:/data {options}\n")
    monkeypatch.setattr(runners.store.lock, "MOUNTS", mounts)
    runners.store.lock._shares_locks.cache_clear()
    with locked(tmp_path / "cell"):
        assert [path.name for path in (tmp_path / "cell").iterdir()] == [name]
    runners.store.lock._shares_locks.cache_clear()


def test_who_holds_it_is_told_and_changes_nothing(tmp_path: Path) -> None:
    pid = held_by_a_child(tmp_path)
    told = [holder(tmp_path)]
    end(pid)
    told.append(holder(tmp_path))
    assert [(alive, owner and owner.pid) for alive, owner in told] == [(True, pid), (False, pid)]


def test_a_full_disk_takes_the_owner_s_name_and_not_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, content: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left")

    monkeypatch.setattr(os, "pwrite", full)
    with locked(tmp_path), pytest.raises(LockedError, match="another process"), locked(tmp_path):
        pass


def test_a_child_that_dies_before_it_holds_a_lock_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AssertionError, match="the child ended with status 1 before it held the lock"):
        held_by_a_child(tmp_path / "file" / "cell")
