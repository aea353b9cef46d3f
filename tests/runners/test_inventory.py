"""`python -m runners.store`: each kind of damage is named by its file, with what to do; whole cells are not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runners.record import CellRecord, RecallResult
from runners.store.inventory import main
from runners.store.lock import locked
from runners.store.store import Store
from tests.runners.conftest import ROOT
from tests.runners.processes import fork
from tests.runners.test_store import record as empty_record

IDENTITY = "{:016x}"


def write_cell(experiment: Path, number: int, *, status: str = "done", lines: int = 3, **config: object) -> Path:
    """Write a cell of three examples and return its folder. config: fields beside those that all have."""
    identity = IDENTITY.format(number << 32)
    folder = experiment / f"m-mage-8-t-static-s0-{identity[:8]}"
    folder.mkdir(parents=True)
    store = Store(folder, RecallResult)
    store.append([RecallResult(id=f"t-{i}", prefix_tokens=64, budget_tokens=8, rows=[]) for i in range(lines)])
    told = empty_record(store).model_dump()
    common = {"budget": 8, "seed": 0, "examples": 3, "output_dir": "outputs", "model": {"device": "cpu", "threads": 1}}
    error = None if status == "done" else "Traceback\nZeroDivisionError: division by zero"
    told |= {"identity": identity, "name": folder.name, "status": status, "error": error}
    store.finish(CellRecord.model_validate({**told, "config": {**common, **config}}))
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for number in range(1, 4):
        write_cell(tmp_path / "outputs" / "a", number)
    write_cell(tmp_path / "outputs" / "b", 4, status="error", lines=2)
    write_cell(tmp_path / "outputs" / "b", 5)
    (tmp_path / "outputs" / "b" / "analysis").mkdir()
    return tmp_path / "outputs"


def first(tree: Path) -> Path:
    return min((tree / "a").iterdir())


def test_a_whole_tree_is_whole(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tree), str(tree / "a")]) == 0
    assert capsys.readouterr().out == "5 cells (4 done, 1 error): nothing is damaged.\n"


def edit(name: str, change: Callable[[bytes], bytes], *, sums: bool = True) -> Callable[[Path], None]:
    def damage(cell: Path) -> None:
        (cell / name).write_bytes(change((cell / name).read_bytes()))
        if not sums:
            (cell / "checksums").unlink()

    return damage


def field(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps({**json.loads(content), **changes}).encode()


def rename(cell: Path) -> None:
    cell.rename(cell.with_name("m-mage-8-t-static-s0-ffffffff"))


def into_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = {
    "record_cut": (edit("record.json", lambda c: c[:100]), "record.json: ", "checksum"),
    "record_cut_long_ago": (edit("record.json", lambda c: c[:100], sums=False), "record.json: ", "EOF"),
    "record_digit": (
        edit("record.json", lambda c: c.replace(b'"threads": 1,', b'"threads": 2,')),
        "record.json: ",
        "checksum",
    ),
    "record_field": (edit("record.json", field(scores=1), sums=False), "record.json: ", "field scores"),
    "identity": (edit("record.json", field(identity="x"), sums=False), "record.json: ", "field identity"),
    "other_cell": (edit("record.json", field(identity="f" * 16), sums=False), "00000001: ", "ffffffffffffffff"),
    "renamed": (rename, "ffffffff: ", "give it that name back"),
    "lines_missing": (edit("examples.jsonl", lambda c: c.split(b"\n", 1)[0] + b"\n"), "examples.jsonl has ", "1 lines"),
    "line_torn": (edit("examples.jsonl", lambda c: c[:-9]), "examples.jsonl has ", "2 lines"),
    "line_digit": (edit("examples.jsonl", lambda c: c.replace(b"64", b"65", 1)), "examples.jsonl: ", "line 1"),
    "line_digit_long_ago": (
        edit("examples.jsonl", lambda c: c.replace(b"64", b"65", 1), sums=False),
        "examples.jsonl: ",
        "SHA-256",
    ),
    "line_schema": (
        edit("examples.jsonl", lambda c: c.replace(b"rows", b"rose", 1), sums=False),
        "examples.jsonl: ",
        "line 1: field",
    ),
    "line_twice": (
        edit("examples.jsonl", lambda c: c.split(b"\n")[0] + b"\n" + c, sums=False),
        "examples.jsonl: ",
        "line 2: example t-0",
    ),
    "examples_gone": (lambda cell: (cell / "examples.jsonl").unlink(), "examples.jsonl ", "is missing"),
    "checksums_junk": (edit("checksums", lambda c: b"junk\n"), "checksums: ", "line 1 is no checksum"),
    "checksums_line": (edit("checksums", lambda c: b"junk\n" + c), "checksums: ", "line 1 is no checksum"),
    "checksums_empty": (edit("checksums", lambda c: b""), "checksums: ", "holds no checksum"),
    "checksums_folder": (lambda cell: into_folder(cell / "checksums"), "checksums: ", "is a directory"),
    "record_folder": (lambda cell: into_folder(cell / "record.json"), "record.json: ", "is a directory"),
    "zeros": (edit("examples.jsonl", lambda c: b"\0" * len(c)), "examples.jsonl: ", "line 1"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_is_named_with_what_to_do(name: str, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, where, what = DAMAGES[name]
    damage(first(tree))
    assert main(["check", str(tree)]) == 1
    damaged, last = (line for line in capsys.readouterr().out.splitlines() if not line.startswith("note: "))
    assert damaged.startswith(f"damaged: {tree}") and where in damaged and what in damaged
    mend = "writes it anew from the examples" if name.startswith("checksums_") else "computes it anew"
    assert f"the same command {mend}" in damaged
    assert last.endswith(": 1 damaged file.")


@pytest.mark.parametrize("name", ["line_digit", "examples_gone", "lines_missing", "checksums_junk", "record_folder"])
def test_list_counts_what_stands(name: str, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    DAMAGES[name][0](first(tree))
    assert main(["list", "--json", str(first(tree))]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    stand = {"lines_missing": 1, "checksums_junk": 3, "record_folder": 3}.get(name, 0)
    assert (told["status"], told["done"]) == ("damaged", stand)


def test_cells_without_checksums_are_counted_in_one_note(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for cell in (tree / "a").iterdir():
        (cell / "checksums").unlink()
    assert main(["check", str(tree)]) == 0
    note, last = capsys.readouterr().out.splitlines()
    told = "note: 3 of 5 cells have no file checksums: nothing tells of a digit changed there:"
    assert note == f"{told} all 3 in {tree / 'a'}" and "nothing is damaged" in last
    cell = max((tree / "b").glob("m-*"))
    (cell / "checksums").unlink()
    assert main(["check", str(tree)]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith(f": all 3 in {tree / 'a'}, {cell}")


def test_what_is_left_over_is_told_and_harms_nothing(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def die() -> int:
        with locked(first(tree)):
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    child = fork(die)
    child.join()
    for name in ("record.json.tmp", "examples.jsonl.damaged-1"):
        (first(tree) / name).touch()
    assert main(["check", str(tree)]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert len(notes) == 3
    assert "damaged-1" in notes[0] and "record.json.tmp" in notes[1]
    assert f"process {child.pid}" in notes[2] and "is gone" in notes[2]


def test_a_cell_in_the_making_is_no_damage(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (first(tree) / "record.json").unlink()
    with (first(tree) / "examples.jsonl").open("a") as file:
        file.write('{"id": "t-')
    begun = tree / "a" / "m-mage-8-t-static-s0-00000009"
    begun.mkdir()
    with locked(first(tree)):
        assert main(["check", str(tree / "a")]) == 0
        assert main(["list", "--json", str(tree / "a")]) == 0
    checked, listed = capsys.readouterr().out.split("\n[", 1)
    assert "4 cells (2 done, 1 running, 1 unfinished): nothing is damaged" in checked
    told = [(cell["status"], cell["done"], cell["asked"]) for cell in json.loads(f"[{listed}")]
    assert told == [("running", 3, None), ("done", 3, 3), ("done", 3, 3), ("unfinished", 0, None)]


def test_list_is_a_row_a_cell(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", str(tree)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "m-mage" in line]
    assert len(rows) == 5
    assert rows[3] == ["m-mage-8-t-static-s0-00000004", "recall", "error", "2/3", "2026-01-01T00:00:00+00:00"]


@pytest.mark.parametrize("command", ["check", "list", "why"])
def test_a_folder_that_is_not_there_is_refused(command: str, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("nowhere", "b/analysis"):
        assert main([command, str(tree / name)]) == 2
        told = capsys.readouterr()
        assert told.out == "" and len(told.err.splitlines()) == 1 and name in told.err


def test_why_tells_what_differs_from_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = tmp_path / "a"
    cell = write_cell(experiment, 1, status="error")
    write_cell(experiment, 2, seed=7, budget=16, steps=None)
    write_cell(experiment, 3, budget=16, model={"device": "cpu", "threads": 4})
    write_cell(experiment, 4, attention="torch", capture=True, name="a")  # options that came later, and a name
    write_cell(experiment, 5, seed=1, budget=2, examples=9)
    assert main(["why", str(cell)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert "error, 3 of 3 examples" in told[0] and "ZeroDivisionError" in told[2]
    compared = told[4:]
    assert compared == [
        "unlike m-mage-8-t-static-s0-00000004:",
        "  name: -, not a (no part of the identity)",
        "  what lies behind weights, tokenizer, adapter or data: its content differs",
        "unlike m-mage-8-t-static-s0-00000003:",
        "  budget: 8, not 16",
        "  model.threads: 1, not 4 (no part of the identity)",
        "unlike m-mage-8-t-static-s0-00000002:",
        "  budget: 8, not 16",
        "  seed: 0, not 7",
        "  steps: -, not null",
        "1 cells more of this experiment differ at least as much.",
    ]


def test_why_tells_all_commits_that_computed_a_cell(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = first(tree)
    told = json.loads((cell / "record.json").read_bytes())["environment"]
    commits = {"git_commit": "b" * 40, "earlier_commits": ["a" * 40]}
    edit("record.json", field(environment={**told, **commits}), sums=False)(cell)
    assert main(["why", str(cell)]) == 0
    assert "computed by commit aaaaaaaa, bbbbbbbb" in capsys.readouterr().out


def test_why_takes_a_part_of_a_name_that_no_other_cell_has(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", "00000002", "--in", str(tree), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["folder"].endswith("00000002") and len(told["neighbours"]) == 2
    shutil.copytree(tree / "a", tree / "c")
    for name, said in (("00000002", "2 names"), ("xyz", "neither")):
        assert main(["why", name, "--in", str(tree)]) == 2
        assert said in capsys.readouterr().err


def test_the_command_needs_no_torch(tree: Path) -> None:
    code = (
        "import sys, runners.store.inventory as i; assert i.main(sys.argv[1:]) == 0; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, "check", str(tree)], cwd=ROOT, check=True)
    shown = subprocess.run([sys.executable, "-m", "runners.store", "check", str(tree / "x")], cwd=ROOT)
    assert shown.returncode == 2
