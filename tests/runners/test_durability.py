"""Writes of a cell's files, step by step: what a kill or a power cut between two of them leaves."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runners.plain_record import write_json
from runners.record import RecallResult
from runners.store.checksums import Checksums
from runners.store.place import Place
from runners.store.store import Store
from tests.runners.processes import fork
from tests.runners.test_store import record, rows


def test_a_new_file_s_name_is_durable_with_its_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "outputs" / "experiment" / "cell", RecallResult)
    store.folder.mkdir(parents=True)
    synced = []
    sync = os.fsync

    def noting(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    store.append(rows(0, 1))
    names = [str(path) for path in (store.folder, *store.folder.parents)]
    assert synced[0].endswith("examples.jsonl") and synced[1:] == names[:4]
    synced.clear()
    store.append(rows(1, 2))
    assert [Path(path).name for path in synced] == ["examples.jsonl"], "an example costs one wait for the disk"
    synced.clear()
    store.finish(record(store))
    told = "a power cut must not leave a record without its checksum"
    assert [Path(path).name for path in synced] == ["checksums", "record.json.tmp", store.folder.name], told


def test_a_plain_record_s_json_is_durable_and_all_new_or_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced, sync = tmp_path / "cell" / "record.json", [], os.fsync

    def noting(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        sync(descriptor)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", noting)
    write_json(path, {"a": 1})
    assert synced == ["record.json.tmp", "cell"]
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device.*record\.json"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [left.name for left in path.parent.iterdir()] == ["record.json"]


def test_a_record_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path, RecallResult)
    store.append(rows(0, 1))

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: full(tmp_path, tmp_path))
        with pytest.raises(OSError, match=r"No space.*checksums'"):
            store.finish(record(store))
        patch.setattr(Checksums, "seal", lambda *told: None)
        with pytest.raises(OSError, match=r"No space.*record\.json'"):
            store.finish(record(store))
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        store.finish(record(store))
    assert not list(tmp_path.glob("record*"))


@pytest.mark.parametrize("failed", [False, True], ids=["new", "failed_before"])
def test_a_kill_between_any_two_steps_on_the_disk_damages_nothing(failed: bool, tmp_path: Path) -> None:
    """Kills before the first call that changes a file, before the second, and so on, until none is left.

    A cell that failed before fails once more, before it looks at its examples, and is computed then.
    """
    ids = [f"task-{index}" for index in range(3)]
    calls = ("write", "fsync", "replace", "ftruncate", "unlink")
    for step in range(1, 100):
        folder = tmp_path / str(step)
        folder.mkdir()
        if failed:
            fail_in(folder, "once")

        def write_a_cell(folder: Path = folder, step: int = step) -> int:
            left = step

            def counted(call: Callable[..., Any]) -> Callable[..., Any]:
                def kill_first(*arguments: Any, **options: Any) -> Any:
                    nonlocal left
                    left -= 1
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return call(*arguments, **options)

                return kill_first

            for name in calls:
                setattr(os, name, counted(getattr(os, name)))
            if failed:
                fail_in(folder, "twice")
            store = Store(folder, RecallResult)
            store.resume(ids, 1)
            for name in ids:
                store.append([RecallResult(id=name, prefix_tokens=64, budget_tokens=8, rows=[])])
                (folder / f"appended-{name}").touch()
            store.finish(record(store))
            return 0

        child = fork(write_a_cell)
        child.join()
        store, told = Store(folder, RecallResult), []
        assert [line for line in Place(folder).damages() if "it is the folder of cell" not in line] == []
        if store.finished("0" * 16) is None:
            appended = len(list(folder.glob("appended-*")))
            assert appended <= len(store.resume(ids, 1, told.append)) <= appended + 1
            assert told == []
        if child.exitcode == 0:
            assert step > 10
            return
        assert child.exitcode == -signal.SIGKILL
    pytest.fail("a cell takes fewer steps")


def fail_in(folder: Path, error: str) -> None:
    store = Store(folder, RecallResult)
    store.finish(record(store, "error").model_copy(update={"error": error}))
