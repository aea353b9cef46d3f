"""A file system without file locks: one owner at a time, by files that their owners touch."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

import runners.store.lease
from runners.store.lease import lease_holder
from runners.store.lock import LockedError, locked
from tests.runners.processes import end, fork, held_by_a_child


def without_locks(monkeypatch: pytest.MonkeyPatch, number: int = errno.ENOSYS) -> None:
    """Let the file system answer that it has no locks."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.fixture(autouse=True)
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    without_locks(monkeypatch)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK], ids=errno.errorcode.get)
def test_where_there_are_no_locks_there_is_a_lease(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_locks(monkeypatch, number)
    with locked(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["lease-1"]
    assert not list(tmp_path.iterdir())


def test_another_trouble_is_no_reason_for_a_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_locks(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output"), locked(tmp_path):
        pass


def age(folder: Path, seconds: float) -> None:
    """Let the leases be that much older than the file server's time."""
    for path in folder.glob("lease-*"):
        told = path.stat()
        os.utime(path, (told.st_atime, told.st_mtime - seconds))


def test_a_held_lease_is_refused_by_its_owner_s_name(tmp_path: Path) -> None:
    pid = held_by_a_child(tmp_path)
    try:
        with pytest.raises(LockedError, match=str(pid)), locked(tmp_path):
            pass
    finally:
        end(pid)


def test_a_dead_owner_s_lease_is_taken_over_when_it_was_silent(tmp_path: Path) -> None:
    pid = held_by_a_child(tmp_path)
    end(pid)
    with pytest.raises(LockedError, match=str(pid)), locked(tmp_path):
        pass
    age(tmp_path, runners.store.lease.SILENT_S + 1)
    assert lease_holder(tmp_path)[0] is False
    with locked(tmp_path):
        assert [path.name for path in tmp_path.glob("lease*")] == ["lease-2"]
        assert json.loads((tmp_path / "lease-2").read_text())["pid"] == os.getpid()
        assert lease_holder(tmp_path)[0] is True
    assert [path.name for path in tmp_path.iterdir()] == ["held"], "neither lock nor lease stays"


def test_a_living_owner_is_never_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners.store.lease, "RENEW_S", 0.001)
    with locked(tmp_path / "a"), locked(tmp_path / "b"):
        for name in ("a", "b"):
            age(tmp_path / name, 10 * runners.store.lease.SILENT_S)
            while lease_holder(tmp_path / name)[0] is False:  # until the next beat
                time.sleep(0.001)
    with locked(tmp_path / "a"):  # the heart beats again after it stopped
        age(tmp_path / "a", 10 * runners.store.lease.SILENT_S)
        while lease_holder(tmp_path / "a")[0] is False:
            time.sleep(0.001)


def wake(folder: Path) -> None:
    os.utime(folder / "lease-1")


def change_hands(folder: Path) -> None:
    """Another takes it over and gives it back, and a third holds it, with the first number again."""
    (folder / "lease-1").rename(folder / "gone")
    (folder / "lease-1").touch()
    os.utime(folder / "lease-1", ns=(0, (folder / "gone").stat().st_mtime_ns))


def overtake(folder: Path) -> None:
    (folder / "lease-2").touch()
    (folder / "lease-1").unlink()


def overtake_twice(folder: Path) -> None:
    (folder / "lease-3").touch()
    (folder / "lease-1").unlink()


@pytest.mark.parametrize("meanwhile", [wake, change_hands, overtake, overtake_twice])
def test_what_happens_just_before_a_takeover_stops_it(
    meanwhile: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lease-1").touch()
    age(tmp_path, runners.store.lease.SILENT_S + 1)
    open_file = os.open
    left: list[str] = []

    def late(path: Path, flags: int, mode: int = 0o777) -> int:
        if Path(path).name == "lease-2" and flags & os.O_EXCL:
            meanwhile(tmp_path)
            left.extend(sorted(path.name for path in tmp_path.glob("lease*")))
        return open_file(path, flags, mode)

    monkeypatch.setattr(os, "open", late)
    with pytest.raises(LockedError), locked(tmp_path):
        pass
    assert left and sorted(path.name for path in tmp_path.glob("lease*")) == left, "what others hold stays"


def test_an_owner_that_lost_its_lease_leaves_the_new_one_alone(tmp_path: Path) -> None:
    with locked(tmp_path):
        age(tmp_path, runners.store.lease.SILENT_S + 1)
        pid = held_by_a_child(tmp_path)
        age(tmp_path, runners.store.lease.SILENT_S + 1)
        (tmp_path / "held").unlink()
        (tmp_path / "lease-2").rename(tmp_path / "lease-1")  # as if all numbers had been given back meanwhile
    assert (tmp_path / "lease-1").exists()
    end(pid)


@pytest.mark.parametrize("dead", [False, True], ids=["free", "dead_owner"])
def test_of_many_that_come_at_once_one_holds_it(dead: bool, tmp_path: Path) -> None:
    folder, log = tmp_path / "cell", tmp_path / "log"
    if dead:
        end(held_by_a_child(folder))
        age(folder, runners.store.lease.SILENT_S + 1)

    def take_turns() -> int:
        turns = 0
        while turns < 5:
            try:
                with locked(folder):
                    turns += 1
                    with log.open("a") as file:
                        file.write(f"in {os.getpid()}\n")
                        file.flush()
                        file.write(f"out {os.getpid()}\n")
            except LockedError:
                time.sleep(0.0005)
        return 0

    children = [fork(take_turns) for _ in range(3)]
    for child in children:
        child.join()
    lines = log.read_text().splitlines()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert set(Counter(lines).values()) == {5}
    for entered, left in zip(lines[::2], lines[1::2], strict=True):
        assert re.sub("^in", "out", entered) == left, "two held it at once"


def test_many_leases_cost_one_thread(tmp_path: Path) -> None:
    with ExitStack() as held:
        for number in range(128):
            held.enter_context(locked(tmp_path / str(number)))
        assert [thread.name for thread in threading.enumerate()].count("leases") == 1
    assert not list(tmp_path.glob("*/*"))
