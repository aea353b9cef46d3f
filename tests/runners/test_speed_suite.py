"""The one command for a GPU machine: within its time, and whatever a point does. Needs no more than the suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from runners import random_model, speed_bench, speed_matrix
from runners.plain_record import PlainRecord
from runners.speed_pace import Pace
from runners.speed_suite import main
from tests.runners.speed_shapes import SMALL, command, failing, last_line, without_kernels, written


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """Two contexts of a small body in two batches."""
    return command(tmp_path)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    without_kernels(monkeypatch)


@pytest.mark.usefixtures("short")
def test_what_does_not_fit_is_a_record_and_the_next_point_is_tried(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, lambda work: work.batch == 2, torch.OutOfMemoryError("CUDA out of memory"))
    assert main(arguments) == 0
    assert last_line(capsys)["status"] == {"done": 4, "out_of_memory": 2}
    failed = {record["labels"]["task"] for record in written(tmp_path) if record["status"] == "out_of_memory"}
    assert failed == {"context 64 batch 2", "context 128 batch 2"}


@pytest.mark.usefixtures("short")
def test_where_a_batch_does_not_fit_the_smaller_ones_come_at_once(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, lambda work: work.batch == 3, torch.OutOfMemoryError("CUDA out of memory"))
    assert main([*arguments, "--batches", "1,3,2"]) == 0
    begun = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("small ")]
    assert begun == [
        f"small {point}"
        for point in (
            *("mage context 128 batch 1", "mage context 128 batch 3", "mage context 128 batch 2"),
            *("mage context 64 batch 1", "mage context 64 batch 3", "mage context 64 batch 2"),
            *("quest context 128 batch 1", "quest context 64 batch 1"),
        )
    ]


@pytest.mark.usefixtures("short")
def test_a_model_that_does_not_fit_is_a_record_of_each_point_and_the_next_one_is_tried(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load_model, names = random_model.load_model, iter(["large", "small"])

    def scarce(*given: Any, **options: Any) -> Any:
        if next(names) == "large":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return load_model(*given, **options)

    (tmp_path / "model" / "large.yaml").write_text(SMALL.replace("small", "large").replace("64", "128"))
    monkeypatch.setattr(random_model, "load_model", scarce)
    assert main([*arguments, "--models", "large,small"]) == 0
    assert last_line(capsys)["status"] == {"done": 6, "out_of_memory": 6}
    failed = [record["labels"]["model"] for record in written(tmp_path) if record["status"] == "out_of_memory"]
    assert failed == 6 * ["large"]


@pytest.mark.usefixtures("short")
def test_the_last_line_is_printed_whatever_happens(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write, seen = PlainRecord.write, []

    def full(self: PlainRecord, experiment: Path) -> Path:
        seen.append(self)
        if len(seen) == 2:
            raise OSError("no space left on device")
        return write(self, experiment)

    monkeypatch.setattr(PlainRecord, "write", full)
    assert main(arguments) == 1
    told = last_line(capsys)
    assert told["failed"] == "OSError: no space left on device" and told["status"] == {"done": 1}


@pytest.mark.usefixtures("short")
def test_where_graphs_fail_all_goes_on_without_them(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine, asked = speed_bench.Engine, []

    def refusing(*given: Any, **options: Any) -> Any:
        asked.append(options["capture"])
        if options["capture"] and len(asked) > 1:  # the first one only prefills
            raise RuntimeError("operation not permitted when stream is capturing")
        return engine(*given, **options)

    monkeypatch.setattr(speed_bench, "Engine", refusing)
    assert main(arguments) == 0
    assert "without CUDA graphs from here on: RuntimeError" in capsys.readouterr().out
    assert asked.count(True) == 2
    found = written(tmp_path)
    assert {record["status"] for record in found} == {"done"} and not any(r["config"]["capture"] for r in found)
    assert main(arguments) == 0
    assert last_line(capsys)["held"] == len(found) and len(written(tmp_path)) == len(found)


@pytest.mark.usefixtures("short")
def test_a_retry_that_fails_otherwise_says_nothing_of_graphs(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure, problems = speed_bench.measure, [RuntimeError("no such kernel"), torch.OutOfMemoryError("out of memory")]

    def failing_twice(*given: Any, **options: Any) -> Any:
        if problems:
            raise problems.pop(0)
        return measure(*given, **options)

    monkeypatch.setattr(speed_bench, "measure", failing_twice)
    assert main(arguments) == 1
    assert last_line(capsys)["status"] == {"done": 5, "error": 1}
    assert all(record["config"]["capture"] for record in written(tmp_path))


@pytest.mark.usefixtures("short")
def test_graphs_are_not_given_up_where_they_are_not_to_blame(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, lambda work: work.context == 128, RuntimeError("no such kernel"))
    assert main(arguments) == 1
    assert last_line(capsys)["status"] == {"done": 3, "error": 3}
    assert all(record["config"]["capture"] for record in written(tmp_path))


@pytest.mark.usefixtures("short")
def test_a_device_that_answers_no_more_ends_the_suite(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, lambda work: work.batch == 2, RuntimeError("an illegal memory access was encountered"))
    monkeypatch.setattr(speed_bench.SpeedBench, "answers", lambda _: False)
    assert main(arguments) == 1
    told = last_line(capsys)
    assert told["status"] == {"done": 1, "error": 1} and len(written(tmp_path)) == 2
    assert told["failed"] == "RuntimeError: the device answers no more, since small mage context 128 batch 2"


@pytest.mark.usefixtures("short")
def test_the_embedded_model_has_a_shape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--models", "tiny", "--contexts", "64", "--batches", "1", "--rounds", "1", "--budget", "16"]
    assert main(["--out", str(tmp_path / "out"), *given, "--device", "cpu", "--dtype", "float32"]) == 0
    assert last_line(capsys)["status"] == {"done": 2}
    assert {record["config"]["model"]["body"]["num_hidden_layers"] for record in written(tmp_path)} == {6}


@pytest.mark.usefixtures("short")
def test_what_the_time_does_not_suffice_for_is_named(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--minutes", "1e-9"]) == 0
    told = last_line(capsys)
    assert len(told["skipped"]) == 6 and told["skipped"][0] == "small mage context 128 batch 1"
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("short")
def test_a_point_that_would_take_too_long_is_not_begun(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    contest = Pace.contest
    monkeypatch.setattr(Pace, "contest", lambda *given: 1e9 if given[1].batch == 2 else contest(*given))
    assert main(arguments) == 0
    told = last_line(capsys)
    assert told["skipped"] == ["small mage context 128 batch 2", "small mage context 64 batch 2"]
    assert told["status"] == {"done": 4}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--models", "smal"], "did you mean small?"),
        (["--models", "small,smal"], "did you mean small?"),
        (["--block-size", "0"], "--block-size=0 is out of range. Allowed: integers >= 1."),
        (["--block-size", "-32"], "--block-size=-32 is out of range."),
        (["--budget", "8"], "less than one page"),
        (["--device", "tpu"], "--device=tpu: not a device. Allowed: cpu, cuda, cuda:N."),
        (["--contexts", "abc"], "abc is not allowed. Allowed: integers, with commas between them."),
        (["--rounds", "two"], "argument --rounds: invalid int value: 'two'"),
        (["--contexts", "100"], "Allowed: multiples of --block-size=8."),
        (["--batches", "0,1"], "Allowed: integers >= 1."),
        (["--attention", "fast"], "attention=fast is not known"),
        (["--dtype", "int8"], "--dtype=int8 is not known"),
        (["--minutes", "0"], "--minutes=0 is out of range. Allowed: above 0"),
        (["--minutes=-1"], "--minutes=-1 is out of range."),
        (["--minutes", "nan"], "--minutes=nan is out of range."),
        (["--minutes", "inf"], "--minutes=inf is out of range."),
        (["--out", __file__], "(Not a directory). Allowed: a folder that can be made."),
        (["--out", f"{__file__}/x"], f"--out={__file__}/x: nothing can be written into {__file__}"),
        (["--out", "/proc/x"], "--out=/proc/x: nothing can be written into /proc"),
        (["--out", 300 * "x"], "(File name too long)"),
        (
            ["--block-size", "1"],
            "--block-size=1: in blocks of one token small has no denoising step. Allowed: integers >= 2.",
        ),
    ],
)
def test_a_wrong_argument_is_refused(
    wrong: list[str],
    told: str,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(speed_matrix.RandomModel, "load", lambda *_: pytest.fail("weights were drawn"))
    assert main([*arguments, *wrong]) == 2
    printed = capsys.readouterr()
    assert told in printed.err and len(printed.err.splitlines()) == 1 and printed.out == ""
