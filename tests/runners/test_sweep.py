"""A sweep end to end on a random model: what is shared, what is skipped."""

from __future__ import annotations

import itertools
import json
import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import runners.environment
import runners.recall
import runners.sweeping.sweep
import runners.sweeping.workbench
from mage.generation.engine import Engine
from mage.generation.prefill import Prefix
from run import CONF
from runners.composition import compose_sweep
from runners.record import ExampleResult, RecallResult
from runners.store.lock import locked
from runners.sweeping.plan import plan_sweep
from tests.runners.conftest import outcome, records, write_tiny_checkpoint

Run = Callable[..., int]
SWEEP = ("-m", "method=mage,quest", "budget=16,32")


def test_a_sweep_computes_each_cell_and_a_reference(run: Run, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*SWEEP) == 0
    found = records(out)
    assert set(found) == {"mage-16", "mage-32", "quest-16", "quest-32", "dense-all"}
    assert {record.status for record in found.values()} == {"done"}
    printed = capsys.readouterr().out
    assert "No dense reference is named" in printed
    assert f"python -m analysis {out}" in printed
    assert (
        sorted(path.name for path in out.glob("*/*"))
        == ["checksums"] * 5 + ["examples.jsonl"] * 5 + ["record.json"] * 5
    )


def test_a_record_says_what_was_measured(run: Run, out: Path) -> None:
    assert run("method=mage", "decoding.tokens_per_step=1") == 0
    found = records(out)
    record, dense = found["mage-16"], found["dense-all"]
    path = next(path for path in out.iterdir() if path.name == record.name)
    rows = [ExampleResult.model_validate_json(line) for line in (path / "examples.jsonl").read_text().splitlines()]
    assert record.examples is not None and record.examples.count == len(rows) == record.metrics["examples"] == 4
    assert len({row.id for row in rows}) == 4
    for row in rows:
        assert row.prefix_tokens == 128 and row.budget_tokens == 16
        assert sum(row.tokens_decided.values()) >= row.generated_tokens
    metrics = record.metrics
    kinds = ("exact", "sparse", "commit")
    assert metrics["forwards_per_block"] == pytest.approx(sum(metrics[f"{k}_forwards_per_block"] for k in kinds))
    assert metrics["exact_forwards_per_block"] == 1.0
    assert 0 < metrics["sparse_token_share"] < 1 and metrics["density"] < 1
    assert metrics["decode_seconds"] > 0 and metrics["peak_memory_bytes"] > 2**20
    assert dense.metrics["density"] == 1.0 and dense.metrics["sparse_token_share"] == 0.0
    assert dense.labels.budget is None


def test_finished_cells_are_skipped_without_a_model(
    run: Run, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*SWEEP) == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    monkeypatch.setattr(runners.sweeping.workbench, "load_model", lambda *a, **k: pytest.fail("the model was loaded"))
    assert run(*SWEEP) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert "0 cells computed, 5 were finished before" in capsys.readouterr().out


def test_model_and_prefixes_are_shared(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    loads, prefills = [], []
    load, prefill = runners.sweeping.workbench.load_model, Engine.prefill
    monkeypatch.setattr(runners.sweeping.workbench, "load_model", lambda *a, **k: loads.append(1) or load(*a, **k))
    monkeypatch.setattr(Engine, "prefill", lambda *a: prefills.append(1) or prefill(*a))
    assert run("-m", "method=mage,quest,random", "budget=16,32", "seed=0,1") == 0
    assert len(loads) == 1
    assert len(prefills) == 2 * 4  # seeds times examples


def test_cells_together_are_what_each_is_alone(run: Run, out: Path) -> None:
    assert run(*SWEEP, "decoding.tokens_per_step=2,4") == 0
    for method, budget, tokens in itertools.product(("dense", "mage", "quest"), (16, 32), (2, 4)):
        alone = (f"method={method}", f"budget={budget}", f"decoding.tokens_per_step={tokens}")
        assert run(*alone, "dense_reference=false", "name=alone") == 0
    together, each = outcome(out), outcome(out.parent / "alone")
    assert len(together) == 10
    assert together == {name: {**told, "experiment": out.name} for name, told in each.items()}


def test_one_prefix_is_held_at_a_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    prefill, alive, most = Engine.prefill, weakref.WeakSet(), []

    def watch(*arguments: Any, **options: Any) -> Prefix:
        most.append(len(alive))
        prefix = prefill(*arguments, **options)
        alive.add(prefix)
        return prefix

    monkeypatch.setattr(Prefix, "__hash__", object.__hash__)
    monkeypatch.setattr(Engine, "prefill", watch)
    assert run(*SWEEP) == 0
    assert most == [0] * 4, "the prefix before is gone before the next is made"


def test_examples_that_stand_are_not_prefilled_again(run: Run, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(*SWEEP) == 0
    undisturbed = outcome(out)
    for cell in out.iterdir():  # as after a kill: dense has two examples, the others one, of four
        (cell / "record.json").unlink()
        lines = (cell / "examples.jsonl").read_bytes().splitlines(keepends=True)
        (cell / "examples.jsonl").write_bytes(b"".join(lines[: 2 if "dense" in cell.name else 1]))
    prefills, prefill = [], Engine.prefill
    monkeypatch.setattr(Engine, "prefill", lambda *a: prefills.append(1) or prefill(*a))
    assert run(*SWEEP) == 0
    assert len(prefills) == 3
    assert outcome(out) == undisturbed


def test_batches_give_the_answers_of_single_examples(run: Run, out: Path) -> None:
    assert run("method=mage", "name=single", "examples=5") == 0
    assert run("method=mage", "name=batched", "examples=5", "runner.batch_size=2") == 0

    def predictions(name: str) -> list[list[str]]:
        files = sorted((out.parent / name).glob("*/examples.jsonl"))
        return [[json.loads(line)["prediction"] for line in file.read_text().splitlines()] for file in files]

    assert predictions("single") == predictions("batched")


def test_nothing_is_loaded_while_another_run_holds_the_cells(
    run: Run, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write_tiny_checkpoint(tmp_path / str(seed), seed) for seed in (3, 4)]
    sweep = ["method=dense", "model.weights=" + ",".join(map(str, paths))]
    configs = compose_sweep([*(s for s in small if not s.startswith("model.weights")), *sweep], CONF, multirun=True)
    load, loads, naps = runners.sweeping.workbench.load_model, [], []
    monkeypatch.setattr(runners.sweeping.workbench, "load_model", lambda *a, **k: loads.append(1) or load(*a, **k))
    with ExitStack() as other:
        for cell in plan_sweep(configs or []).cells:
            other.enter_context(locked(cell.folder))

        def nap(seconds: float) -> None:
            naps.append(len(loads))
            if len(naps) == 5:
                other.close()

        monkeypatch.setattr(time, "sleep", nap)
        assert run("-m", *sweep) == 0
    assert naps == [0] * 5
    assert len(loads) == 2


def test_variants_of_a_model_do_not_alternate(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    load, loads = runners.sweeping.workbench.load_model, []
    monkeypatch.setattr(runners.sweeping.workbench, "load_model", lambda *a, **k: loads.append(1) or load(*a, **k))
    assert run("-m", "method=dense", "seed=0,1", "model.dtype=float32,bfloat16", "examples=1") == 0
    assert len(loads) == 2


def test_finished_cells_of_another_commit_are_told(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for commit in ("a" * 40, "b" * 40):
        for module in (runners.environment, runners.sweeping.sweep):
            monkeypatch.setattr(module, "git_state", lambda commit=commit: (commit, False))
        assert run("-m", "method=dense,mage") == 0
    assert "2 of them were computed by commit aaaaaaaa, this is bbbbbbbb." in capsys.readouterr().out


def test_which_cells_another_commit_computed_follows_how_many_are_finished(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runners.environment, "git_state", lambda: ("a" * 40, False))
    assert run("method=dense") == 0
    monkeypatch.setattr(runners.sweeping.sweep, "git_state", lambda: ("b" * 40, False))
    capsys.readouterr()
    assert run("method=mage") == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        "1 of 2 cells are finished already.",
        "1 of them were computed by commit aaaaaaaa, this is bbbbbbbb.",
        "No dense reference is named for niah: it is computed too (dense_reference=true).",
    ]


def test_recall_of_the_oracle_is_one(run: Run, out: Path) -> None:
    assert run("-m", "method=oracle,mage,random", "runner=recall", "decoding.tokens_per_step=1") == 0
    found = records(out)
    assert found["oracle-16"].metrics["recall"] == pytest.approx(1.0)
    assert found["oracle-16"].metrics["mass_captured"] == pytest.approx(1.0)
    assert found["random-16"].metrics["recall"] < found["mage-16"].metrics["recall"] <= 1.0
    path = next(path for path in out.iterdir() if path.name == found["mage-16"].name)
    for line in (path / "examples.jsonl").read_text().splitlines():
        rows = RecallResult.model_validate_json(line).rows
        assert {row.layer for row in rows} == {1, 2}, "dense layers have no selection"
        assert min(row.step for row in rows) == 2, "the first step of mage is exact"


def test_recall_tells_what_is_held_of_the_evidence(run: Run, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-m", "method=oracle,mage", "runner=recall", "examples=3", "budget=100") == 0
    assert "evidence held" in capsys.readouterr().out
    for record in records(out).values():
        shares: list[float] = []
        for line in (out / record.name / "examples.jsonl").read_text().splitlines():
            result = RecallResult.model_validate_json(line)
            told = [(row.evidence_held or 0.0, row.evidence_mass or 0.0) for row in result.rows]
            assert result.evidence_tokens and all(mass > 0 and held <= mass * (1 + 1e-6) for held, mass in told)
            shares.append(sum(held for held, _ in told) / sum(mass for _, mass in told))
        assert 0 < record.metrics["evidence_share"] <= 1
        assert record.metrics["evidence_share"] == pytest.approx(sum(shares) / len(shares))


def test_without_evidence_there_is_no_column_of_it(
    run: Run, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runners.recall, "evidence_positions", lambda *_: [])
    assert run("-m", "method=oracle,mage", "runner=recall") == 0
    printed = capsys.readouterr().out
    assert "oracle mass" in printed and "evidence held" not in printed
    assert all("evidence_share" not in record.metrics for record in records(out).values())
