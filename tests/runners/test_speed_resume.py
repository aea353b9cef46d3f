"""The speed suite goes on where it ended: what has a record of this device is not timed again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runners import speed_matrix
from runners.speed_suite import main
from tests.runners.speed_shapes import command, failing, last_line, quick_roofs, without_kernels, written


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """Two contexts of a small body in two batches."""
    return command(tmp_path)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    without_kernels(monkeypatch)


@pytest.mark.usefixtures("short")
def test_the_same_command_goes_on_with_what_is_left(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        failing(patched, lambda work: work.context == 128, RuntimeError("no such kernel"))
        assert main(arguments) == 1
        assert last_line(capsys)["held"] == 0
    first = {record["name"]: record for record in written(tmp_path)}
    assert main(arguments) == 0
    told = last_line(capsys)
    assert told["status"] == {"done": 3} and told["held"] == 3 and not told["skipped"]
    second = {record["name"]: record for record in written(tmp_path)}
    assert second.keys() == first.keys() and {record["status"] for record in second.values()} == {"done"}
    assert all(second[name] == record for name, record in first.items() if record["status"] == "done")


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("damage", ["{", "[]", '{"status": "done"}', '{"status": "done", "environment": 3}'])
def test_a_damaged_record_or_one_of_another_device_is_timed_again(
    damage: str,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    short = [*arguments, "--contexts", "64", "--batches", "1"]
    assert main(short) == 0
    next((tmp_path / "out").glob("*mage*/record.json")).write_text(damage)
    assert main(short) == 0
    assert last_line(capsys)["held"] == 1
    monkeypatch.setattr(speed_matrix, "device_name", lambda _: "another one")
    assert main(short) == 0
    assert last_line(capsys)["held"] == 0


def test_kernels_that_were_right_are_not_timed_again(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick_roofs(monkeypatch)
    short = [*arguments, "--contexts", "64", "--batches", "1", "--rounds", "1"]
    assert main(short) == 0
    (path,) = (tmp_path / "out").glob("kernels_*.json")
    before = path.read_text()
    next((tmp_path / "out").glob("*mage*/record.json")).unlink()
    assert main(short) == 0
    assert path.read_text() == before
    wrong = json.dumps({**json.loads(before), "wrong": ["mass/torch/64x1"]})
    for other in (wrong, before.replace('"budget": 32', '"budget": 16')):
        path.write_text(other)
        next((tmp_path / "out").glob("*mage*/record.json")).unlink()
        assert main(short) == 0
        held = json.loads(path.read_text())
        assert held["wrong"] == [] and held["budget"] == 32
