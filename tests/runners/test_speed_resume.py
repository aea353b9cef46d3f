"""The speed suite goes on where it ended: what has a record of this device is not timed again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mage.timing.kernel_report import KernelReport, report_kernels
from runners import environment, speed_kernels
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
    monkeypatch.setattr(environment, "device_name", lambda _: "another one")
    assert main(short) == 0
    assert last_line(capsys)["held"] == 0


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("was", "told"),
    [
        ({"threads": 99}, "threads 99, now "),
        ({"packages": {"torch": "1.0"}}, "torch 1.0, now "),
        ({"packages": {"triton": "1.0"}}, "triton 1.0, now "),
        ({"git_commit": 40 * "0"}, f"commit {40 * '0'}, now "),
        ({"device": "abacus", "threads": 99}, "device abacus, now cpu "),
        ({"packages": {}, "git_commit": None}, None),
    ],
)
def test_what_was_made_elsewhere_is_timed_again_and_one_line_says_why(
    was: dict[str, Any], told: str | None, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = [*arguments, "--contexts", "64", "--batches", "1", "--rounds", "1"]
    assert main(short) == 0
    for path in (tmp_path / "out").glob("*/record.json"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps({**record, "environment": {**record["environment"], **was}}))
    capsys.readouterr()
    assert main(short) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert json.loads(last)["held"] == (2 if told is None else 0)
    assert [str(told) in line for line in lines if line.startswith("timed again")] == ([] if told is None else [True])


def edit(path: Path, **changed: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def test_kernels_that_were_right_are_not_timed_again(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick_roofs(monkeypatch)
    short = [*arguments, "--contexts", "64", "--batches", "1", "--rounds", "1"]
    assert main(short) == 0
    (path,) = (tmp_path / "out").glob("kernels_*.json")
    assert "nothing to do" not in capsys.readouterr().out
    before = json.loads(path.read_text())
    assert main(short) == 0
    assert json.loads(path.read_text()) == before
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == f"nothing to do: {tmp_path / 'out'} holds all 2 points, and the kernels"
    assert len(printed.splitlines()) == 2
    next((tmp_path / "out").glob("*mage*/record.json")).unlink()
    assert main(short) == 0
    assert json.loads(path.read_text()) == before
    # All points are held, and still:
    elsewhere = {**before["environment"], "threads": 99}
    kept = [timing for timing in before["timings"] if timing["kernel"] != "mass"]
    for changed in (
        {"wrong": ["mass/torch/64x1"]},
        {"budget": 16},
        {"environment": elsewhere},
        {"timings": kept},
        {"timings": []},
    ):
        edit(path, **changed)
        assert main(short) == 0
        held = json.loads(path.read_text())
        assert held["wrong"] == [] and held["budget"] == 32 and held["environment"]["threads"] != 99
        assert {timing["kernel"] for timing in held["timings"]} == {timing["kernel"] for timing in before["timings"]}
    path.unlink()
    assert main(short) == 0
    assert path.is_file()


def test_a_wrong_kernel_is_told_in_every_run(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick_roofs(monkeypatch)

    class Wrong(KernelReport):
        @property
        def wrong(self) -> list[str]:
            return ["mass/torch/64x1"]

    def reported(*given: Any, **named: Any) -> KernelReport:
        found = report_kernels(*given, **named)
        return Wrong(found.implementation, found.dtype, found.roofs, found.timings, found.too_large)

    monkeypatch.setattr(speed_kernels, "report_kernels", reported)
    short = [*arguments, "--contexts", "64", "--batches", "1", "--rounds", "1"]
    for more, held, skipped in (
        ([], 0, []),
        ([], 2, []),  # redone
        (["--minutes", "1e-9"], 2, ["small kernels"]),  # told again
    ):
        assert main([*short, *more]) == 1
        told = last_line(capsys)
        assert told["wrong"] == ["small mass/torch/64x1"] and told["held"] == held and told["skipped"] == skipped


@pytest.mark.parametrize("other", [("--contexts", "96"), ("--batches", "1,2"), ("--budget", "32")])
def test_kernels_under_other_options_leave_those_before_as_they_are(
    other: tuple[str, str], arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_roofs(monkeypatch)
    short = [*arguments, "--contexts", "64", "--batches", "1", "--budget", "16", "--rounds", "1"]
    assert main(short) == 0
    (path,) = (tmp_path / "out").glob("kernels_*.json")
    before = path.read_bytes()
    assert main([*short, *other]) == 0
    assert path.read_bytes() == before
    assert len(list((tmp_path / "out").glob("kernels_*.json"))) == 2


def test_kernels_above_their_roof_are_named_in_every_run(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick_roofs(monkeypatch)
    short = [*arguments, "--contexts", "64", "--batches", "1", "--rounds", "1"]
    assert main(short) == 0
    first = last_line(capsys)["above_roof"]
    (path,) = (tmp_path / "out").glob("kernels_*.json")
    timings = json.loads(path.read_text())["timings"]
    assert first == [
        f"small {t['kernel']}/{t['implementation']}/64x1" for t in timings if t["share"] is not None and t["share"] > 1
    ]
    edit(path, timings=[{**t, "share": 1.5 if t["kernel"] == "mass" else 0.5} for t in timings])
    assert main(short) == 0
    assert last_line(capsys)["above_roof"] == ["small mass/torch/64x1"]


def test_kernels_that_no_memory_holds_are_not_tried_again(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_roofs(monkeypatch)
    short = [*arguments, "--contexts", "64", "--batches", "1", "--rounds", "1"]
    assert main(short) == 0
    (path,) = (tmp_path / "out").glob("kernels_*.json")
    edit(path, timings=[], too_large=["64x1"])
    before = path.read_text()
    assert main(short) == 0
    assert path.read_text() == before
