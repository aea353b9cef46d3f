"""Bytes that changed, lines and records that do not belong: what is told of them, what stands, what is kept aside."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from runners.record import RecallResult
from runners.store.checksums import Checksums
from runners.store.place import Place
from runners.store.store import DamagedError, Store, read_record
from tests.runners.test_store import IDS, record, rows


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path, RecallResult)


@pytest.mark.parametrize(
    "line",
    [b"{}\n", b"not json\n", b"not\rjson\n", b"\x00\x00\x00\n", rows(4, 5)[0].model_dump_json().encode() + b"\n"],
)
def test_a_line_that_does_not_belong_is_kept_aside_with_what_follows(line: bytes, store: Store, tmp_path: Path) -> None:
    store.append(rows(0, 2))
    file = tmp_path / "examples.jsonl"
    whole = file.read_bytes()
    rest = line + rows(2, 3)[0].model_dump_json().encode() + b"\n"
    for number in (1, 2):
        file.write_bytes(whole + rest)
        told: list[str] = []
        assert store.resume(IDS, 1, told.append) == rows(0, 2)
        assert file.read_bytes() == whole
        assert (tmp_path / f"examples.jsonl.damaged-{number}").read_bytes() == rest, "nothing computed is overwritten"
        assert len(told) == 1 and "line 3" in told[0] and f"damaged-{number}" in told[0]


def test_a_changed_digit_is_noticed(store: Store, tmp_path: Path) -> None:
    store.append(rows(0, 2))
    store.append(rows(2, 4))
    file = tmp_path / "examples.jsonl"
    change(file, rows(2, 3)[0].model_dump_json().encode().replace(b"64", b"65"), at=2)
    told: list[str] = []
    assert store.resume(IDS, 1, told.append) == rows(0, 2)
    assert len(told) == 1 and "line 3 is not what was written" in told[0]
    store.append(rows(2, 6))
    assert store.resume(IDS, 1, told.append) == rows(0, 6)
    assert len(told) == 1, "what was computed anew is whole"


@pytest.mark.parametrize("line", [0, 3])
@pytest.mark.parametrize(("place", "byte"), [(3, b"\r"), (3, b"\n"), (3, b"\x85"), (-1, b"\r"), (-1, b"\0")])
def test_no_byte_that_changes_loses_an_example_in_silence(
    line: int, place: int, byte: bytes, store: Store, tmp_path: Path
) -> None:
    store.append(rows(0, 4))
    file = tmp_path / "examples.jsonl"
    lines = [bytearray(line) for line in file.read_bytes().splitlines(keepends=True)]
    lines[line][place] = byte[0]
    damaged = b"".join(lines)
    file.write_bytes(damaged)
    (told,) = Place(tmp_path).damages()
    assert f"line {line + 1} is not what was written" in told
    said: list[str] = []
    assert store.resume(IDS, 1, said.append) == rows(0, line)
    assert len(said) == 1 and f"line {line + 1} is not what was written" in said[0]
    assert file.read_bytes() + (tmp_path / "examples.jsonl.damaged-1").read_bytes() == damaged


def test_lines_without_checksums_are_as_good_as_their_schema(store: Store, tmp_path: Path) -> None:
    store.append(rows(0, 3))
    (tmp_path / "checksums").unlink()
    assert store.resume(IDS, 1) == rows(0, 3)


def change(file: Path, line: bytes, at: int) -> None:
    lines = file.read_bytes().splitlines()
    lines[at] = line
    file.write_bytes(b"".join(line + b"\n" for line in lines))


@pytest.mark.parametrize("status", ["done", "error"])
@pytest.mark.parametrize("sums", [True, False], ids=["checksums", "none"])
def test_examples_that_a_record_does_not_describe_are_told(
    status: str, sums: bool, store: Store, tmp_path: Path
) -> None:
    store.append(rows(0, 6))
    store.finish(record(store, status))
    if not sums:
        (tmp_path / "checksums").unlink()
    file = tmp_path / "examples.jsonl"
    whole = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(whole[:4]))
    told: list[str] = []
    kept = store.resume(IDS, 1, told.append)
    assert kept == rows(0, 4 if sums else 0), "what nothing vouches for is computed anew"
    assert len(told) == 1 and "computed anew" in told[0]
    assert (tmp_path / "record.json.damaged-1").exists() == (status == "done")
    assert (tmp_path / "examples.jsonl.damaged-1").exists() != sums


@pytest.mark.parametrize("damage", ["cut", "digit", "empty"])
def test_a_damaged_record_is_told_and_made_anew_from_its_examples(damage: str, store: Store, tmp_path: Path) -> None:
    store.append(rows(0, 6))
    store.finish(record(store))
    file = tmp_path / "record.json"
    whole = file.read_bytes()
    damaged = {"cut": whole[: len(whole) // 2], "digit": whole.replace(b'"seed": 0', b'"seed": 1'), "empty": b""}[
        damage
    ]
    file.write_bytes(damaged)
    assert damaged != whole and store.finished("0" * 16) is None
    told: list[str] = []
    assert store.resume(IDS, 1, told.append) == rows(0, 6)
    assert len(told) == 1 and "record.json" in told[0] and "record.json.damaged-1" in told[0]
    assert (tmp_path / "record.json.damaged-1").read_bytes() == damaged
    store.finish(record(store))
    assert store.finished("0" * 16) is not None


@pytest.mark.parametrize("full", [True, False], ids=["full_disk", "replaced"])
def test_a_record_that_could_not_be_replaced_is_whole(
    full: bool, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell that fails twice before it looks at its examples never drops the record."""
    first, second = (record(store, "error").model_copy(update={"error": error}) for error in ("once", "twice"))
    store.finish(first)
    if full:
        monkeypatch.setattr(os, "replace", refuse)
        with pytest.raises(OSError, match="No space"):
            store.finish(second)
    else:
        store.finish(second)
    assert read_record(tmp_path) == (first if full else second)
    (tmp_path / "record.json").write_text(second.model_dump_json())
    with pytest.raises(DamagedError, match="checksum"):
        read_record(tmp_path)


def refuse(source: Path, target: Path) -> None:
    raise OSError(errno.ENOSPC, "No space left")


def test_another_cell_in_the_folder_is_kept_aside(store: Store, tmp_path: Path) -> None:
    store.append(rows(0, 6))
    store.finish(record(store))
    told: list[str] = []
    renamed = Store(tmp_path, RecallResult)
    assert renamed.finished("1" * 16) is None
    assert renamed.resume(IDS, 1, told.append) == []
    assert len(told) == 1 and "0000000000000000" in told[0]
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["checksums.foreign-1", "examples.jsonl.foreign-1", "record.json.foreign-1"]
    notes = Place(tmp_path).notes()
    assert len(notes) == 3 and all("of another cell" in note for note in notes)


@pytest.mark.parametrize("junk", [b"junk\n", b"", None], ids=["junk", "empty", "folder"])
def test_checksums_that_tell_nothing_vouch_for_no_record(junk: bytes | None, store: Store, tmp_path: Path) -> None:
    store.append(rows(0, 6))
    store.finish(record(store))
    file, sums = tmp_path / "record.json", tmp_path / "checksums"
    file.write_bytes(file.read_bytes().replace(b'"seed": 0', b'"seed": 1'))
    sums.unlink()
    if junk is None:
        sums.mkdir()
    else:
        sums.write_bytes(junk)
    told: list[str] = []
    assert store.finished("0" * 16) is None
    assert store.resume(IDS, 1, told.append) == rows(0, 6)
    assert "checksums: " in told[0] and "record.json.damaged-1" in told[0]
    assert (tmp_path / "checksums.damaged-1").exists() == (junk != b"")
    store.finish(record(store))
    assert store.finished("0" * 16) is not None and Checksums(tmp_path).trouble(written="record.json") is None


def test_what_a_record_says_of_its_examples_counts_without_checksums(store: Store, tmp_path: Path) -> None:
    store.append(rows(0, 6))
    store.finish(record(store))
    (tmp_path / "checksums").write_text("junk\n")
    change(tmp_path / "examples.jsonl", rows(2, 3)[0].model_dump_json().encode().replace(b"64", b"65"), at=2)
    assert store.standing("0" * 16, 6, 1) == 0
    assert store.resume(IDS, 1) == []


def test_a_power_cut_in_the_first_checksums_damages_nothing(store: Store, tmp_path: Path) -> None:
    for torn in (b"", b"examples.js", b"\0\0"):
        (tmp_path / "checksums").write_bytes(torn)
        assert Place(tmp_path).damages() == []
        told: list[str] = []
        assert store.resume(IDS, 1, told.append) == [] and told == []


@pytest.mark.parametrize("name", ["record.json", "examples.jsonl", "checksums"])
def test_a_directory_in_place_of_a_file_is_set_aside(name: str, store: Store, tmp_path: Path) -> None:
    store.append(rows(0, 6))
    store.finish(record(store))
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    assert any("it is a directory" in line for line in Place(tmp_path).damages())
    assert store.finished("0" * 16) is None
    told: list[str] = []
    stood = store.resume(IDS, 1, told.append)
    assert any(f"{name}.damaged-1" in line for line in told)
    store.append(rows(len(stood), 6))
    store.finish(record(store))
    assert store.finished("0" * 16) is not None


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("damage", ["none", "digit", "cut", "first_lines", "foreign"])
def test_what_stands_is_what_a_resume_keeps(damage: str, batch: int, store: Store, tmp_path: Path) -> None:
    store.append(rows(0, 6))
    store.finish(record(store))
    file = tmp_path / "examples.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    lines[0] = lines[0].replace(b"64", b"65") if damage == "digit" else lines[0]
    file.write_bytes(b"".join(lines[2 * (damage == "first_lines") : 5 if damage == "cut" else 6]))
    identity = ("1" if damage == "foreign" else "0") * 16
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    told = store.standing(identity, 6, batch)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    store.finished(identity)
    assert told == len(store.resume(IDS, batch)) == {"none": 6, "cut": 5 if batch == 1 else 4}.get(damage, 0)
