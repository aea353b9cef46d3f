"""runner=latency: cells without a task, their records, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mage.timing import roofs
from run import CONF
from runners.cell import Cell, read_cell
from runners.composition import compose_sweep
from runners.latency import Latency
from runners.latency_result import LatencyResult
from runners.record import CellRecord
from runners.settings import ModelSettings
from runners.sweeping.plan import plan_sweep

Run = Callable[..., int]
FAST = ("runner=latency", "runner.context=256", "runner.rounds=2")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofs, "SECONDS", 0.01)
    monkeypatch.setitem(roofs.COPY_BYTES, "cpu", 2**22)
    monkeypatch.setitem(roofs.PRODUCT_SIZE, "cpu", 128)


def cell(checkpoint: Path, *overrides: str) -> Cell:
    given = ["runner=latency", f"model.weights={checkpoint}", *overrides]
    (config,) = compose_sweep(given, CONF, multirun=False)
    return read_cell(config)


def read(folder: Path) -> tuple[CellRecord, list[LatencyResult]]:
    record = CellRecord.model_validate_json((folder / "record.json").read_bytes())
    lines = (folder / "examples.jsonl").read_text().splitlines()
    return record, [LatencyResult.model_validate_json(line) for line in lines]


def test_a_sweep_times_methods_against_dense_and_ends_with_json(
    run: Run, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("-m", *FAST, "method=dense,mage") == 0
    printed = capsys.readouterr().out
    told = json.loads(printed.splitlines()[-1])
    assert told["results"] == [str(out)] and [c["method"] for c in told["cells"]] == ["dense", "mage"]
    assert "No dense reference is named" not in printed
    folders = sorted(path for path in out.iterdir() if path.is_dir())
    assert [folder.name.rpartition("-")[0] for folder in folders] == [
        "tiny-dense-all-context_256_batch_1-static-s0",
        "tiny-mage-16-context_256_batch_1-static-s0",
    ]
    record, rows = read(folders[1])
    assert (record.labels.task, record.labels.question, record.labels.metric) == ("context 256 batch 1", "", "")
    assert record.environment.attention == rows[0].conditions.attention == "torch"
    assert [row.id for row in rows] == ["round-000", "round-001"]
    assert rows[1].round.method.forwards == {"exact": 1, "fused": 0, "sparse": 7, "commit": 1}  # four tokens a step
    assert record.metrics["speedup"] == told["cells"][1]["speedup"] > 0
    assert record.metrics["bound_speedup"] > 1 and record.metrics["peak_memory_bytes"] > 2**20
    assert "task" not in record.config and "examples" not in record.config
    assert run("-m", *FAST, "method=dense,mage") == 0
    assert "0 cells computed, 2 were finished before" in capsys.readouterr().out


def test_fused_commits_are_timed_against_dense_with_fused_commits(run: Run, out: Path) -> None:
    assert run("-m", *FAST, "method=mage,quest", "fuse_commit=true") == 0
    found = {
        record.labels.method: (record, rows) for record, rows in map(read, (p for p in out.iterdir() if p.is_dir()))
    }
    for method, forwards in (
        ("mage", {"exact": 0, "fused": 1, "sparse": 7, "commit": 0}),
        ("quest", {"exact": 0, "fused": 0, "sparse": 8, "commit": 1}),
    ):
        record, rows = found[method]
        assert record.config["fuse_commit"] is True
        for row in rows:
            assert (row.round.dense.forwards, row.round.method.forwards) == (
                {"exact": 7, "fused": 1, "sparse": 0, "commit": 0},
                forwards,
            )
            assert row.round.dense.dense_reads == row.round.method.dense_reads
        assert record.metrics["dense_commit_forwards_per_block"] == 0


def test_fused_commits_take_a_block_more() -> None:
    """Of positions: the first block does not count, and the last one is committed on a side that does not fuse."""
    body = {"max_position_embeddings": 64}
    model = ModelSettings.model_construct(block_size=8, weights="random", body=body)
    plain, fused = (
        Latency(context=64).fitted(model, fuse_commit=way).body["max_position_embeddings"] for way in (False, True)
    )
    assert (plain, fused) == (64 + 5 * 8, 64 + 6 * 8)


def test_the_window_of_random_weights_does_not_bind() -> None:
    random = ["runner=latency", "model=fast_dllm_v2_7b", "model.weights=random", "model.device=cpu"]
    configs = [compose_sweep([*random, f"runner.context={n}"], CONF, multirun=False) for n in (8192, 32768)]
    short, long = (plan_sweep(config).cells[0] for config in configs)
    assert short.checkpoint.config.max_positions == 32768
    assert long.checkpoint.config.max_positions == 32768 + 5 * 32
    assert long.config["model"]["body"]["max_position_embeddings"] == 32768  # what was asked for


def test_rounds_of_a_killed_run_are_not_mixed_with_others(run: Run, out: Path) -> None:
    assert run(*FAST, "method=mage") == 0
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    (folder / "record.json").unlink()
    first, _ = (folder / "examples.jsonl").read_text().splitlines()
    (folder / "examples.jsonl").write_text(first + "\n")
    assert run(*FAST, "method=mage") == 0
    kept = (folder / "examples.jsonl").read_text().splitlines()
    assert len(kept) == 2 and kept[0] != first
    assert json.loads(kept[0])["conditions"] == json.loads(kept[1])["conditions"]


def test_methods_share_a_prefix_and_only_its_maker_tells_of_its_rate(run: Run, out: Path) -> None:
    assert run("-m", *FAST, "method=mage,quest", "method.commit=dense,sparse") == 0
    found = [read(path)[0].metrics for path in out.iterdir() if path.is_dir()]
    assert len(found) == 4 and len({metrics["prefill_seconds"] for metrics in found}) == 1
    assert sum("prefill_rate_share" in metrics for metrics in found) == 1


@pytest.mark.parametrize("override", ["task=multi_value", "task.lengths=[512]", "examples=7", "tracker=none"])
def test_what_is_not_used_is_no_part_of_a_cell(override: str, tiny_checkpoint: Path) -> None:
    assert cell(tiny_checkpoint, override).identity == cell(tiny_checkpoint).identity


@pytest.mark.parametrize(
    "override",
    [
        "runner.context=2048",
        "runner.batch=2",
        "runner.blocks=2",
        "runner.rounds=6",
        "runner.prefill_chunk=1024",
        "capture=false",
        "fuse_commit=true",
        "runner.check_every=8",
        "runner.overlap=true",
        "decoding=threshold",
        "model.dtype=bfloat16",
        "budget=32",
        "seed=1",
    ],
)
def test_what_can_change_a_time_changes_the_identity(override: str, tiny_checkpoint: Path) -> None:
    assert cell(tiny_checkpoint, override).identity != cell(tiny_checkpoint).identity


def test_a_task_that_could_not_be_built_stands_in_no_ones_way(tiny_checkpoint: Path) -> None:
    overrides = ["runner=latency", f"model.weights={tiny_checkpoint}", "task.lengths=[1000000]"]
    (planned,) = plan_sweep(compose_sweep(overrides, CONF, multirun=False)).cells
    assert planned.task is None


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["runner.context=0"], "runner.context=0 is out of range"),
        (["runner.context=100"], "runner.context=100 is not allowed. Allowed: a multiple of model.block_size=32."),
        (["runner.prefill_chunk=48"], "runner.prefill_chunk=48 is not allowed"),
        (["runner.context=8192"], "runner.context=8192: with the blocks behind it it takes 8352 positions"),
        (["runner.context=8192"], "Allowed: at most 8032; model.yarn stretches them."),
        (
            ["method=quest", "budget=0.005", "runner.context=1024"],
            "budget=0.005 with runner.context=1024: a budget of 6 tokens is less than one page",
        ),
        (["runner.rounds=0"], "runner.rounds=0 is out of range"),
        (["method=oracle"], "method=oracle: it looks at every key in every step to choose"),
        (["runner.contexts=4096"], "runner.contexts is not a field"),
    ],
)
def test_what_cannot_be_timed_is_refused_in_one_line(
    overrides: list[str], told: str, run: Run, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("runner=latency", *overrides) == 2
    problem = capsys.readouterr().err
    assert told in problem and len(problem.strip().splitlines()) == 1
    assert not out.exists()
