"""runner=kernels times kernels at the shapes of a model, writes them down and closes with a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor

from analysis.kernel_frame import kernel_points, read_kernels
from mage.attention import torch_operations
from mage.attention.flash import fused_partial_attention

FAST = ["runner=kernels", "runner.contexts=[64,96]", "runner.runs=3", "runner.kernels=[mass,gather]", "budget=16"]


def test_timings_are_written_and_summed_up(
    run: Callable[..., int], tiny_checkpoint: Path, out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(*FAST, f"model.weights={tiny_checkpoint}", "runner.batches=[1,2]") == 0
    lines = capfd.readouterr().out.splitlines()
    last = json.loads(lines[-1])
    (path,) = out.glob("kernels_tiny_torch_float32_*.json")
    record = json.loads(path.read_text())
    told = [line for line in lines[:-1] if not line.startswith("roofs")]
    assert len(record["timings"]) == len(told) == 2 * 2 * 2
    assert last["record"] == str(path) and last["wrong"] == []
    shapes = {(t["kernel"], t["context"], t["batch"]) for t in record["timings"]}
    assert shapes == {(k, n, b) for k in ("mass", "gather") for n in (64, 96) for b in (1, 2)}
    assert record["environment"]["attention"] == "torch" and record["roofs"]["flops_per_second"] > 0
    assert set(last["share"]) == {f"{k}/torch/{n}x{b}" for k, n, b in shapes}
    points = kernel_points(read_kernels([out]))
    assert set(zip(points.kernel, points.context, points.batch)) == shapes and points.ours.all()
    asked = points[["model", "dtype", "block_size", "budget", "page_size"]].drop_duplicates().values.tolist()
    assert asked == [["tiny", "float32", "32", "16", "16"]]


def test_what_differs_has_a_file_of_its_own(run: Callable[..., int], tiny_checkpoint: Path, out: Path) -> None:
    shape = ["runner=kernels", "runner.contexts=[64]", "runner.runs=3", "runner.kernels=[gather]"]
    for override in ("budget=16", "budget=32", "runner.page_size=8", "model.block_size=16", "budget=16"):
        assert run(*shape, f"model.weights={tiny_checkpoint}", override) == 0
    assert len(list(out.glob("kernels_tiny_torch_float32_*.json"))) == 4


def test_a_body_in_the_config_needs_no_weights(run: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(*FAST, "model=fast_dllm_v2_1_5b", "model.device=cpu", "model.dtype=float32", "model.threads=1") == 0
    # 2 KV heads of 128 channels, 4 bytes each: keys read once and a float written for each of 64 entries, and the
    # queries of 6 heads, 32 positions each.
    path = json.loads(capfd.readouterr().out.splitlines()[-1])["record"]
    timing = json.loads(Path(path).read_text())["timings"][0]
    assert timing["bytes"] == 64 * (2 * 128 * 4 + 4 * 2) + 6 * 32 * 2 * 128 * 4


def test_a_wrong_kernel_is_told_and_fails_the_run(
    run: Callable[..., int], tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def wrong(q: Tensor, keys: Tensor, *others: object) -> tuple[Tensor, Tensor]:
        out, lse = fused_partial_attention(q, keys, *others)  # type: ignore[arg-type]
        return out * (2.0 if keys.shape[2] == 96 else 1.0), lse

    monkeypatch.setattr(torch_operations, "fused_partial_attention", wrong)  # not what it is compared with
    kernels = [*FAST[:3], "runner.kernels=[dense,gather]", "budget=16"]
    assert run(*kernels, f"model.weights={tiny_checkpoint}") == 1
    told = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert told["wrong"] == ["dense/torch/96x1"] and isinstance(told["above_roof"], list)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("runner.contexts=[]", "runner.contexts=[] is out of range"),
        ("runner.batches=[0]", "runner.batches=[0] is out of range"),
        (
            f"runner.contexts=[{2**63 - 1}]",
            "is out of range. Allowed: a list of integers from 1 to 46116860",
        ),
        (f"runner.batches=[{2**63 - 1}]", "is out of range. Allowed: a list of integers from 1 to 46116860"),
        ("runner.runs=0", "runner.runs=0 is out of range"),
        ("runner.kernels=[gathr]", "runner.kernels=gathr is not known; did you mean gather?"),
        ("runner.contxts=[1]", "runner.contxts"),
        ("runner.kernels=[prefill] runner.batches=[2]", "times nothing: a prefill is timed on one row"),
        ("model.device=cuda:99", "model.device=cuda:99"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(
    override: str, words: str, run: Callable[..., int], out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("runner=kernels", *override.split()) == 2
    printed = capfd.readouterr()
    assert words in printed.err and len(printed.err.splitlines()) == 1 and printed.out == ""
    assert not out.exists()


@pytest.mark.parametrize(
    ("override", "shape"),
    [
        ("runner.contexts=[100000000000000]", "100000000000000x1"),
        ("runner.batches=[1000000000000]", "64x1000000000000"),
        ("runner.contexts=[4600000000000000000]", "4600000000000000000x1"),
        ("runner.batches=[4600000000000000000]", "64x4600000000000000000"),
    ],
)
def test_a_shape_that_no_memory_holds_is_told_and_the_others_are_timed(
    override: str, shape: str, run: Callable[..., int], tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = {"runner.contexts": "runner.contexts=[64]", "runner.batches": "runner.batches=[1]"}
    field, _, huge = override.partition("=")
    given[field] = given[field].replace("]", f",{huge[1:]}")
    assert run(*FAST[:1], *FAST[2:], *given.values(), f"model.weights={tiny_checkpoint}") == 1
    printed = capfd.readouterr()
    assert json.loads(printed.out.splitlines()[-1])["too_large"] == [shape] and "Traceback" not in printed.err
    assert set(json.loads(printed.out.splitlines()[-1])["share"]) == {"mass/torch/64x1", "gather/torch/64x1"}
