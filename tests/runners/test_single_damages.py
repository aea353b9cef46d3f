"""One change to one file of a finished cell: `check` names that file, and the same command mends it."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from runners.record import CellRecord, RecallResult
from runners.store.checksums import Checksums
from runners.store.inventory import main as inventory
from runners.store.place import Place
from runners.store.store import Store, read_record
from tests.runners.conftest import outcome
from tests.runners.test_store import IDS, record, rows

FILES = ("examples.jsonl", "checksums", "record.json")
IDENTITY = "0" * 16
COMMIT = "c" * 40


def byte(content: bytes, place: int, rng: random.Random) -> bytes:
    """Change one byte to any other."""
    other = rng.choice([value for value in range(256) if value != content[place]])
    return content[:place] + bytes([other]) + content[place + 1 :]


def line(content: bytes, rng: random.Random) -> bytes:
    """Take away a line, write it twice, swap two, garble one, or end the file somewhere."""
    lines = content.splitlines(keepends=True)
    one, two = (rng.sample(range(len(lines)), 2) * 2)[:2]
    kind = rng.randrange(5)
    if kind == 0:
        del lines[one]
    elif kind == 1:
        lines.insert(one, lines[one])
    elif kind == 2:
        lines[one], lines[two] = lines[two], lines[one]
    elif kind == 3:
        lines[one] = b"#" + lines[one][1:]
    else:
        return content[: rng.randrange(len(content))]
    return b"".join(lines)


def compute(folder: Path, commit: str = COMMIT) -> list[str]:
    """Do what a sweep does with a cell, and return what it says."""
    said: list[str] = []
    store = Store(folder, RecallResult, commit)
    if store.finished(IDENTITY) is None:
        stood = store.resume(IDS, 1, said.append)
        if len(stood) < len(IDS):
            store.append(rows(len(stood), len(IDS)))
        store.finish(computed_by(commit, store))
    return said


def computed_by(commit: str, store: Store) -> CellRecord:
    told = record(store)
    commits = {"git_commit": commit, "earlier_commits": store.earlier_commits}
    return told.model_copy(update={"environment": told.environment.model_copy(update=commits)})


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    folder = tmp_path / "cell-00000000"
    folder.mkdir()
    compute(folder)
    return folder


def damages(folder: Path) -> list[str]:
    return [told for told in Place(folder).damages() if "it is the folder of cell" not in told]


def mended(cell: Path, name: str, damaged: bytes) -> None:
    """Assert that a damaged file is named, alone, and mended by a sweep."""
    whole = {file: (cell / file).read_bytes() for file in FILES}
    assert damages(cell) == []
    is_named(cell, name, damaged)
    compute(cell)
    assert damages(cell) == [] and Store(cell, RecallResult).finished(IDENTITY) is not None
    assert {file: (cell / file).read_bytes() for file in FILES} == whole
    for kept in cell.glob("*.damaged-*"):
        kept.unlink()


def is_named(cell: Path, name: str, damaged: bytes) -> None:
    (cell / name).write_bytes(damaged)
    named = damages(cell)
    assert len(named) == 1 and re.match(rf"{re.escape(str(cell / name))}(:| has )", named[0]), (name, named, damaged)
    assert "the same command" in named[0]
    assert Store(cell, RecallResult).finished(IDENTITY) is None, "what is damaged is not finished"


def test_every_changed_byte_of_the_checksums_is_named_there(cell: Path) -> None:
    content, rng = (cell / "checksums").read_bytes(), random.Random(1)
    for place in range(len(content)):
        is_named(cell, "checksums", byte(content, place, rng))
        (cell / "checksums").write_bytes(content)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("seed", range(3))
def test_any_single_damage_is_named_and_mended(seed: int, name: str, cell: Path) -> None:
    content, rng = (cell / name).read_bytes(), random.Random(seed)
    for _ in range(40):
        damaged = byte(content, rng.randrange(len(content)), rng) if rng.random() < 0.5 else line(content, rng)
        if damaged != content:
            mended(cell, name, damaged)


def test_what_the_record_proves_is_not_computed_again_and_keeps_its_commits(tmp_path: Path) -> None:
    first = Store(tmp_path, RecallResult, "a" * 40)
    first.append(rows(0, 3))
    store = Store(tmp_path, RecallResult, COMMIT)
    store.resume(IDS, 1)
    store.append(rows(3, 6))
    store.finish(computed_by(COMMIT, store))
    file = tmp_path / "checksums"
    lines = file.read_text().splitlines(keepends=True)
    # One entry lost, one of a commit that never was, one wrong.
    file.write_text("".join([*lines[1:3], lines[3].replace("ccc", "ddd", 1), lines[4][:-1] + "x\n", *lines[5:]]))
    assert Store(tmp_path, RecallResult).standing(IDENTITY, 6, 1) == 6
    said: list[str] = []
    again = Store(tmp_path, RecallResult, "e" * 40)
    assert again.finished(IDENTITY) is None
    assert again.resume(IDS, 1, said.append) == rows(0, 6)
    assert "checksums: " in said[0] and "checksums.damaged-1 and written anew" in said[1]
    assert again.earlier_commits == [COMMIT, "a" * 40]


def unseal(cell: Path) -> list[str]:
    """Make the checksums those that were written before there were seals; return their lines."""
    file = cell / "checksums"
    lines = [told if not told.startswith("record") else told[:-9] for told in file.read_text().splitlines()]
    file.write_text("".join(f"{told}\n" for told in lines))
    return lines


def test_checksums_without_a_seal_load_and_are_mended_where_lines_of_them_are_wrong(cell: Path) -> None:
    lines = unseal(cell)
    assert damages(cell) == [] and compute(cell) == []
    for wrong in (lines[1:], [lines[0].replace(" 0 ", " 0 1", 1), *lines[1:]], lines[:-1]):
        (cell / "checksums").write_text("".join(f"{told}\n" for told in wrong))
        (named,) = damages(cell)
        assert named.startswith(f"{cell / 'checksums'}: ")
        assert any("checksums" in told for told in compute(cell))
        assert damages(cell) == []


def test_a_cell_that_began_before_there_were_checksums_gets_them_all(cell: Path) -> None:
    for name in ("record.json", "checksums"):
        (cell / name).unlink()
    assert damages(cell) == []
    compute(cell)
    assert Checksums(cell).gap("examples.jsonl", (cell / "examples.jsonl").read_bytes()) is None
    assert damages(cell) == []


def test_a_torn_line_of_checksums_is_replaced_before_the_next(cell: Path) -> None:
    """A power cut tears the entry of a second failure; the cell fails a third time before it looks at its examples."""
    store = Store(cell, RecallResult, COMMIT)
    (cell / "record.json").unlink()
    store.finish(record(store, "error"))
    with (cell / "checksums").open("a") as file:
        file.write("record.json 0 12")
    assert damages(cell) == []
    store.finish(record(store, "error").model_copy(update={"error": "third"}))
    assert damages(cell) == [] and read_record(cell).error == "third"


# The whole way: run.py, `check`, run.py.

Run = Callable[..., int]
SWEEP = ("-m", "method=mage", "budget=16", "dense_reference=false")


@pytest.fixture
def swept(run: Run, out: Path) -> Path:
    assert run(*SWEEP) == 0
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    return folder


def checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    capsys.readouterr()
    status = inventory(["check", str(folder)])
    return status, [told for told in capsys.readouterr().out.splitlines() if told.startswith("damaged: ")]


def changed(name: str, old: str, new: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        assert re.search(old.encode(), content)
        (folder / name).write_bytes(re.sub(old.encode(), new.encode(), content, count=1))

    return damage


WHOLE_WAY: Sequence[tuple[str, Callable[[Path], None]]] = (
    ("checksums", changed("checksums", r"(\A\S+ 0 \d+)\d ", r"\1 ")),
    ("checksums", changed("checksums", r"\A(\S+ 0 \d+) [0-9a-f]{8}", r"\1 00000000")),
    ("checksums", changed("checksums", r"\Ae", "#")),
    ("checksums", changed("checksums", r"record\.json .*\n", "")),
    ("examples.jsonl", changed("examples.jsonl", r'"forwards"', '"forwarts"')),
    ("record.json", changed("record.json", r'"score": [0-9.]+', '"score": 0.111')),
)


@pytest.mark.parametrize(("name", "damage"), WHOLE_WAY)
def test_what_check_names_the_same_command_mends(
    name: str, damage: Callable[[Path], None], swept: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = outcome(swept.parent)
    damage(swept)
    status, (told,) = checked(swept.parent, capsys)
    assert status == 1 and told.startswith(f"damaged: {swept / name}: ")
    assert run(*SWEEP) == 0
    assert "1 cell computed" in capsys.readouterr().out
    assert checked(swept.parent, capsys) == (0, [])
    assert outcome(swept.parent) == before


def test_a_record_that_nothing_vouches_for_is_not_believed(
    swept: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = outcome(swept.parent)
    changed("checksums", r"record\.json .*\n", "")(swept)
    changed("record.json", r'"score": [0-9.]+', '"score": 0.111')(swept)
    assert checked(swept, capsys)[0] == 1
    assert run(*SWEEP) == 0
    assert "0.111" not in (swept / "record.json").read_text() and outcome(swept.parent) == before


@pytest.mark.parametrize("link", [False, True], ids=["file", "dangling_link"])
def test_a_file_in_the_place_of_a_cell_is_told_and_moved_aside(
    link: bool, swept: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = outcome(swept.parent)
    shutil.rmtree(swept)
    if link:
        swept.symlink_to("nowhere")
    else:
        swept.write_text("hello\n")
    status, (told,) = checked(swept.parent, capsys)
    assert status == 1 and f"{swept}: it is no folder" in told
    assert inventory(["list", str(swept.parent)]) == 0 and "damaged" in capsys.readouterr().out
    assert inventory(["list", "--json", str(swept.parent)]) == 0
    assert json.loads(capsys.readouterr().out)[0]["status"] == "damaged"
    assert run(*SWEEP) == 0
    assert f"kept as {swept.name}.damaged-1" in capsys.readouterr().out.replace("\n", "")
    aside = swept.with_name(f"{swept.name}.damaged-1")
    assert aside.is_symlink() if link else aside.read_text() == "hello\n"
    assert checked(swept.parent, capsys) == (0, []) and outcome(swept.parent) == before
    assert sorted(path.name for path in swept.parent.iterdir()) == [swept.name, aside.name]
