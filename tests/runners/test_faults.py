"""What goes wrong for real: full and read-only disks, memory that runs out, hangs, dead owners, damaged files.

Elsewhere: cells that raise in test_sweep_failures.py; signals, kills and four processes in test_interruption.py; kills
between two writes in test_durability.py; single bytes in test_damaged_cells.py; a tracker whose server refuses or
hangs in the tests of the tracker; configs in test_refusals.py; checkpoints in test_damaged_checkpoints.py and
test_models.py.
"""

from __future__ import annotations

import resource
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel

import runners.store.lease
from runners.evaluate import Evaluate
from runners.store.inventory import main as store_command
from tests.runners.conftest import outcome, records
from tests.runners.mounts import fill, make_read_only, mount, with_mounts
from tests.runners.processes import fork
from tests.runners.test_lease import without_locks

Run = Callable[..., int]
TWO = ("-m", "method=dense,mage", "examples=12")


def instead_of_mage(monkeypatch: pytest.MonkeyPatch, trouble: Callable[[], object], after: int = 1) -> None:
    """Let the cell of MAGE run into trouble once that many of its examples are computed."""
    compute, seen = Evaluate.compute, []

    def troubled(self: Evaluate, cell: Any, bench: Any, questions: Sequence[Any]) -> list[BaseModel]:
        if cell.labels.method == "mage":
            seen.append(questions)
            if len(seen) > after:
                trouble()
        return compute(self, cell, bench, questions)

    monkeypatch.setattr(Evaluate, "compute", troubled)


@pytest.fixture
def whole(run: Run, out: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two finished cells in `out` say. They are computed once."""
    kept = tmp_path_factory.getbasetemp() / "two_finished_cells"
    if kept.exists():
        shutil.copytree(kept, out)
    else:
        assert run(*TWO) == 0
        shutil.copytree(out, kept)
    return outcome(out)


def test_a_full_disk_fails_the_cell_with_that_message(
    whole: dict[str, Any], run: Run, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is some room left: lines are written until one does not fit."""
    (dense,) = out.glob("*dense*")
    elsewhere = shutil.copytree(dense, tmp_path / dense.name)

    def work() -> None:
        mount(out.parent, megabytes=2)
        shutil.copytree(elsewhere, dense)
        ballast = fill(out.parent, 12 * 1024)
        assert run(*TWO) == 1
        assert "No space left on device" in capsys.readouterr().out
        assert outcome(out) == {dense.name: whole[dense.name]}, "no part of a record stands"
        assert store_command(["check", str(out)]) == 0, "no torn line"
        assert any(path.read_bytes() for path in out.glob("*mage*/examples.jsonl")), "what fitted stands"
        ballast.unlink()
        assert run(*TWO) == 0
        assert outcome(out) == whole

    with_mounts(work)


def test_a_file_that_may_not_grow_fails_the_cell(
    whole: dict[str, Any], run: Run, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kernel refuses to write on, as it does on a full disk; nobody needs to be root for that."""
    (cell,) = out.glob("*mage*")
    shutil.rmtree(cell)
    size = 3000

    def limited() -> int:
        instead_of_mage(monkeypatch, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)), after=0)
        status = run(*TWO)
        assert "File too large" in capsys.readouterr().out
        return status

    child = fork(limited)
    child.join()
    assert child.exitcode == 1
    lines = (cell / "examples.jsonl").read_bytes()
    assert 0 < len(lines) <= size and lines.endswith(b"\n")
    assert run(*TWO) == 0
    assert (cell / "examples.jsonl").read_bytes().startswith(lines)
    assert outcome(out) == whole


def test_a_read_only_output_folder_is_refused_and_harms_nothing(
    whole: dict[str, Any], run: Run, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = shutil.copytree(out, tmp_path / "elsewhere")

    def work() -> None:
        mount(out.parent, megabytes=2)
        shutil.copytree(elsewhere, out)
        make_read_only(out.parent)
        assert run("-m", "method=dense,mage,quest", "examples=12") == 2
        assert "nothing can be written into" in capsys.readouterr().err
        assert run(*TWO) == 0, "nothing is left to write"
        assert outcome(out) == whole

    with_mounts(work)


@pytest.mark.parametrize("piece", [lambda: torch.empty(2**26), lambda: bytes(2**28)], ids=["torch", "python"])
def test_memory_that_runs_out_fails_one_cell(
    piece: Callable[[], object], run: Run, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hoard() -> None:
        pieces = []
        while True:
            pieces.append(piece())

    def limited() -> int:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
        instead_of_mage(monkeypatch, hoard)
        return run("-m", "method=mage,quest")

    child = fork(limited)
    child.join()
    assert child.exitcode == 1
    found = records(out)
    assert {name: told.status for name, told in found.items()} == {
        "dense-all": "done",
        "mage-16": "out_of_memory",
        "quest-16": "done",
    }
    failed = found["mage-16"]
    assert failed.examples is not None and failed.examples.count == 1, "what was computed stays"


def test_a_cell_that_hangs_is_ended_by_its_time_limit(run: Run, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instead_of_mage(monkeypatch, lambda: time.sleep(3600))
    assert run("-m", "method=mage,quest", "runner.timeout_s=2") == 1
    found = records(out)
    assert {name: told.status for name, told in found.items()} == {
        "dense-all": "done",
        "mage-16": "timeout",
        "quest-16": "done",
    }
    assert "runner.timeout_s=2" in (found["mage-16"].error or "")


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "record_cut": ("record.json", lambda content: content[: len(content) // 2]),
    "record_empty": ("record.json", lambda content: b""),
    "record_score": ("record.json", lambda content: content.replace(b'"examples": 12.0', b'"examples": 13.0')),
    "line_cut": ("examples.jsonl", lambda content: content[: len(content) // 2]),
    "examples_zeros": ("examples.jsonl", lambda content: bytes(len(content))),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_told_and_computed_anew(
    damage: str, whole: dict[str, Any], run: Run, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (cell,) = out.glob("*mage*")
    name, change = DAMAGES[damage]
    content = (cell / name).read_bytes()
    assert change(content) != content
    (cell / name).write_bytes(change(content))
    assert store_command(["check", str(out)]) == 1
    assert str(cell / name) in capsys.readouterr().out

    assert run(*TWO) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{cell.name}: ")]
    assert len(told) == 1 and name in told[0]
    assert outcome(out) == whole
    assert store_command(["check", str(out)]) == 0


def test_without_file_locks_the_cells_of_a_dead_owner_are_taken_over(
    whole: dict[str, Any], run: Run, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(out)
    without_locks(monkeypatch)
    monkeypatch.setattr(runners.store.lease, "SILENT_S", 0.5)
    monkeypatch.setattr(runners.store.lease, "RENEW_S", 0.05)

    def stuck() -> int:
        instead_of_mage(monkeypatch, lambda: (out / "stuck").touch() or signal.pause())
        return run(*TWO)

    child = fork(stuck)
    while not (out / "stuck").exists():
        time.sleep(0.002)
    child.kill()
    child.join()
    (cell,) = out.glob("*mage*")
    stood = (cell / "examples.jsonl").read_bytes()
    assert list(cell.glob("lease-*")) and not (cell / "lock").exists()
    assert run(*TWO) == 0
    assert outcome(out) == whole
    assert (cell / "examples.jsonl").read_bytes().startswith(stood) and not list(out.glob("*/lease-*"))
