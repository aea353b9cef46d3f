"""The one command for a GPU machine: without what such a machine lacks, within its time, whatever a point does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from analysis.frame import load
from analysis.kernel_frame import kernel_points, read_kernels
from mage.timing import roofs
from run import CONF
from runners import random_model, speed_matrix
from runners.choices import read_choice
from runners.composition import compose_sweep
from runners.plain_record import PlainRecord
from runners.speed_suite import main
from tests.runners.override_sets import choices

RUNNER = ("check_every", "prefill_chunk", "warm_blocks")
ROOT = Path(__file__).resolve().parents[2]
LACKING = ("hydra", "omegaconf", "pydantic", "wandb", "pandas", "rich", "matplotlib", "datasets", "transformers")
PROGRAM = f"""
import sys
class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {LACKING!r}:
            raise ImportError(f"{{name}} is not on this machine")
sys.meta_path.insert(0, Lacking())
from runners.speed_suite import main
sys.exit(main(sys.argv[1:]))
"""
BASE = """# What small bodies share.
block_size: 4
mask_id: 60
stop_ids: [59]
alignment: shifted
body:
  model_type: qwen3
  vocab_size: 300
  rms_norm_eps: 1e-6
  rope_theta: 1e6
"""
SMALL = """# A small body.
defaults: [_base, _self_]
name: small
body:
  hidden_size: 32
  intermediate_size: 64
  num_hidden_layers: 3
  num_attention_heads: 4
  num_key_value_heads: 2
  head_dim: 16
  max_position_embeddings: 64
"""


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """Two contexts of a small body in two batches."""
    (tmp_path / "model").mkdir()
    for name, text in {"_base": BASE, "small": SMALL}.items():
        (tmp_path / "model" / f"{name}.yaml").write_text(text)
    shape = ["--models", "small", "--contexts", "128,64", "--batches", "1,2", "--block-size", "8", "--budget", "32"]
    placed = ["--device", "cpu", "--dtype", "float32", "--rounds", "2", "--conf", str(tmp_path)]
    return ["--out", str(tmp_path / "out"), *shape, *placed]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Roofs in no time, and no kernels."""
    monkeypatch.setattr(roofs, "SECONDS", 0.01)
    monkeypatch.setitem(roofs.COPY_BYTES, "cpu", 2**22)
    monkeypatch.setattr(speed_matrix.SpeedMatrix, "_kernels", lambda *_: None)


def test_it_needs_little_more_than_torch_and_its_records_are_read(arguments: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["status"] == {"done": 6} and not told["skipped"] and not told["wrong"]
    results = load([tmp_path / "out"])
    found = results.cells.sort_values(["context", "batch", "method"])
    assert list(zip(found.context, found.batch, found.method)) == [
        *((64, 1, "mage"), (64, 1, "quest"), (64, 2, "mage")),
        *((128, 1, "mage"), (128, 1, "quest"), (128, 2, "mage")),
    ]
    assert (found.speedup > 0).all() and (found.bound_speedup > 1).all() and (found.forwards_per_block == 8).all()
    assert (found.prefill_rows == 1).all() and not found.method.str.contains("=").any()
    told_of = {tuple(record.config["runner"][key] for key in RUNNER) for record in found.record}
    assert told_of == {(7, None, 0)}
    assert set(results.latency.attention) == {"torch"}
    (kernels,) = (tmp_path / "out").glob("kernels_*.json")
    assert json.loads(kernels.read_text())["wrong"] == []
    points = kernel_points(read_kernels([tmp_path / "out"]))
    assert len(points) == 11 and (points.share > 0).all()
    asked = points[["model", "dtype", "block_size", "budget", "page_size"]].drop_duplicates().values.tolist()
    assert asked == [["small", "float32", "8", "32", "16"]]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_it_runs_kernels_and_graphs(arguments: list[str], tmp_path: Path) -> None:
    wide = tmp_path / "model" / "small.yaml"
    wide.write_text(SMALL.replace("head_dim: 16", "head_dim: 64"))
    shape = ["--contexts", "2048,1024", "--block-size", "32", "--budget", "256"]
    assert main([*arguments, *shape, "--device", "cuda", "--dtype", "bfloat16"]) == 0
    results = load([tmp_path / "out"])
    assert set(results.cells.status) == {"done"} and len(results.cells) == 6
    assert set(results.latency.attention) == {"triton"} and results.latency.captured.all()
    assert (results.cells.dense_block_peak_memory_bytes > 0).all()


@pytest.mark.usefixtures("short")
def test_what_does_not_fit_is_a_record_and_the_next_point_is_tried(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure = speed_matrix.measure

    def scarce(*given: Any, **options: Any) -> Any:
        if given[4].batch == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return measure(*given, **options)

    monkeypatch.setattr(speed_matrix, "measure", scarce)
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["status"] == {"done": 4, "out_of_memory": 2}
    found = load([tmp_path / "out"]).cells
    assert set(found[found.status == "out_of_memory"].task) == {
        "context 64 batch 2 (random weights)",
        "context 128 batch 2 (random weights)",
    }


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
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["status"] == {"done": 6, "out_of_memory": 6}
    found = load([tmp_path / "out"]).cells
    assert set(found[found.status == "out_of_memory"].model) == {"large"}


@pytest.mark.usefixtures("short")
def test_the_last_line_is_printed_whatever_happens(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write, written = speed_matrix.PlainRecord.write, []

    def full(self: PlainRecord, experiment: Path) -> Path:
        written.append(self)
        if len(written) == 2:
            raise OSError("no space left on device")
        return write(self, experiment)

    monkeypatch.setattr(speed_matrix.PlainRecord, "write", full)
    assert main(arguments) == 1
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["failed"] == "OSError: no space left on device" and told["status"] == {"done": 1}


@pytest.mark.usefixtures("short")
def test_where_graphs_fail_all_goes_on_without_them(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine, asked = speed_matrix.Engine, []

    def refusing(*given: Any, **options: Any) -> Any:
        asked.append(options["capture"])
        if options["capture"] and len(asked) > 1:  # the first one only prefills
            raise RuntimeError("operation not permitted when stream is capturing")
        return engine(*given, **options)

    monkeypatch.setattr(speed_matrix, "Engine", refusing)
    assert main(arguments) == 0
    assert "without CUDA graphs from here on: RuntimeError" in capsys.readouterr().out
    assert asked.count(True) == 2
    found = load([tmp_path / "out"]).cells
    assert set(found.status) == {"done"} and not any(r.config["capture"] for r in found.record)


@pytest.mark.usefixtures("short")
def test_what_the_time_does_not_suffice_for_is_named(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--minutes", "0"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(told["skipped"]) == 6 and told["skipped"][0] == "small mage context 128 batch 1"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--models", "smal"], "did you mean small?"),
        (["--models", "small,smal"], "did you mean small?"),
        (["--block-size", "0"], "--block-size=0 is out of range. Allowed: integers >= 1."),
        (["--block-size", "-32"], "--block-size=-32 is out of range."),
        (["--device", "tpu"], "--device=tpu: not a device. Allowed: cpu, cuda, cuda:N."),
        (["--contexts", "abc"], "abc is not allowed. Allowed: integers, with commas between them."),
        (["--rounds", "two"], "argument --rounds: invalid int value: 'two'"),
        (["--contexts", "100"], "Allowed: multiples of --block-size=8."),
        (["--batches", "0,1"], "Allowed: integers >= 1."),
        (["--attention", "fast"], "attention=fast is not known"),
        (["--dtype", "int8"], "--dtype=int8 is not known"),
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


def test_choices_are_read_as_hydra_puts_them_together() -> None:
    names = choices("model")
    configs = compose_sweep([f"model={','.join(names)}"], CONF, multirun=True)
    assert [read_choice(CONF / "model", name) for name in names] == [config["model"] for config in configs]
