"""What stands on the disk after a cut, a full disk or another writer, and what a resume makes of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from runners.record import CellLabels, CellRecord, Environment, RecallResult
from runners.store.store import Store
from runners.sweeping.limits import CellTimeoutError, Terminated

IDS = [f"task-{index}" for index in range(6)]


def rows(start: int, stop: int) -> list[RecallResult]:
    return [RecallResult(id=name, prefix_tokens=64, budget_tokens=8, rows=[]) for name in IDS[start:stop]]


def record(store: Store, status: str = "done") -> CellRecord:
    labels = CellLabels(
        model="m", method="mage", budget=8, task="t", decoding="static", question="block", seed=0, runner="recall"
    )
    environment = Environment(
        git_commit=None,
        git_dirty=None,
        python="3.11",
        packages={},
        platform="test",
        device="cpu",
        threads=1,
        started="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T00:00:00+00:00",
    )
    return CellRecord.model_validate(
        {
            "identity": "0" * 16,
            "name": "cell",
            "experiment": "t",
            "status": status,
            "error": None,
            "labels": labels,
            "config": {},
            "environment": environment,
            "metrics": {},
            "examples": store.examples_file(),
        }
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path, RecallResult)


def test_resume_returns_what_was_appended(store: Store) -> None:
    assert store.resume(IDS, 1) == []
    store.append(rows(0, 2))
    store.append(rows(2, 3))
    assert store.resume(IDS, 1) == rows(0, 3)


@pytest.mark.parametrize("cut", [1, 10, -1])
def test_a_torn_last_line_is_cut(cut: int, store: Store, tmp_path: Path) -> None:
    store.append(rows(0, 3))
    file = tmp_path / "examples.jsonl"
    whole = file.read_bytes()
    line = rows(3, 4)[0].model_dump_json().encode() + b"\n"
    file.write_bytes(whole + line[:cut])
    assert store.resume(IDS, 1) == rows(0, 3)
    assert file.read_bytes() == whole


def test_what_another_commit_computed_is_told(tmp_path: Path) -> None:
    first, second, third = (Store(tmp_path, RecallResult, letter * 40) for letter in "abc")
    told: list[str] = []
    for start, store in enumerate([first, second]):
        store.resume(IDS, 1, told.append)
        store.append(rows(2 * start, 2 * start + 2))
    assert len(told) == 1 and "2 of 6 examples stand, computed by commit aaaaaaaa; this is bbbbbbbb" in told[0]
    assert (first.earlier_commits, second.earlier_commits) == (["b" * 40], ["a" * 40])
    third.resume(IDS, 1, told.append)
    assert len(told) == 2 and "4 of 6 examples stand, computed by commit aaaaaaaa, bbbbbbbb; this is cccc" in told[1]
    third.append(rows(4, 6))
    assert third.earlier_commits == ["a" * 40, "b" * 40]

    file = tmp_path / "examples.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:1]))
    told.clear()
    assert first.resume(IDS, 1, told.append) == rows(0, 1) and told == []
    assert first.earlier_commits == [], "of lines that are gone nothing is told"


def test_another_process_in_the_same_file_is_noticed(store: Store, tmp_path: Path) -> None:
    store.resume(IDS, 1)
    store.append(rows(0, 2))
    other = Store(tmp_path, RecallResult)
    other.resume(IDS, 1)
    other.append(rows(2, 3))
    for write in (lambda: store.append(rows(2, 3)), lambda: store.finish(record(store))):
        with pytest.raises(OSError, match="another process writes into it"):
            write()
    other.append(rows(3, 6))
    other.finish(record(other))
    store.finish(record(store, "error"))
    assert store.finished("0" * 16) is not None, "a failed attempt does not replace a finished cell"


def test_a_part_of_a_batch_is_computed_again(store: Store) -> None:
    store.append(rows(0, 3))
    assert store.resume(IDS, 2) == rows(0, 2)
    assert store.resume(IDS, 2) == rows(0, 2)


def test_the_short_last_batch_of_a_whole_cell_stays(store: Store) -> None:
    store.append(rows(0, 6))
    assert store.resume(IDS, 4) == rows(0, 6)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), CellTimeoutError("late"), Terminated()])
def test_what_stops_a_write_leaves_the_file_as_it_was(
    error: BaseException, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append(rows(0, 2))
    before = (tmp_path / "examples.jsonl").read_bytes()
    write = os.write

    def full(descriptor: int, content: bytes) -> int:
        if len(content) < 20:
            raise error
        return write(descriptor, content[:20])  # a disk takes what fits before it refuses

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(type(error)) as raised:
        store.append(rows(2, 3))
    assert str(tmp_path / "checksums") in str(raised.value) or not isinstance(error, OSError), "it names the file"
    assert (tmp_path / "examples.jsonl").read_bytes() == before


def test_finished_needs_a_record_that_fits(store: Store, tmp_path: Path) -> None:
    identity = "0" * 16
    assert store.finished(identity) is None
    store.append(rows(0, 6))
    written = record(store)
    store.finish(written)
    assert store.finished(identity) == written
    assert store.finished("1" * 16) is None

    store.append(rows(0, 1))
    assert store.finished(identity) is None, "examples.jsonl is not what the record describes"
    store.finish(record(store, "error"))
    assert store.finished(identity) is None, "a failed cell is tried again"
    (tmp_path / "record.json").write_text('{"schema_version": 1}')
    assert store.finished(identity) is None


def test_a_resume_drops_the_record_of_a_failed_attempt(store: Store, tmp_path: Path) -> None:
    store.append(rows(0, 2))
    store.finish(record(store, "error"))
    store.resume(IDS, 1)
    assert not (tmp_path / "record.json").exists()


def test_no_temporary_file_stays(store: Store, tmp_path: Path) -> None:
    store.append(rows(0, 1))
    store.finish(record(store))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checksums", "examples.jsonl", "record.json"]
