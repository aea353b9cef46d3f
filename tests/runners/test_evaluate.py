"""The metrics of a cell, from rows written by hand; the likelihood of answers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.cells_table import cells_table
from analysis.comparison import compare
from analysis.frame import Results, load
from mage.generation import engine
from runners.evaluate import summarise
from runners.record import CellRecord, ExampleResult
from tests.runners.conftest import records


def row(score: float, blocks: int, sparse: int, tokens: int, decode: float) -> ExampleResult:
    return ExampleResult(
        id=f"e{score}",
        score=score,
        exact=score == 1.0,
        prediction="",
        references=["a"],
        labels={},
        prompt_tokens=70,
        prefix_tokens=64,
        truncated_tokens=0,
        question_tokens_prefilled=0,
        generated_tokens=tokens,
        blocks=blocks,
        budget_tokens=8,
        forwards={"exact": blocks, "sparse": sparse, "commit": blocks - 1},
        seconds={"prefill": 5.0, "exact": decode / 2, "selection": 0.0, "sparse": decode / 2, "commit": 0.0},
        tokens_decided={"exact": tokens - sparse, "sparse": sparse, "seed": 1},
        density=0.5,
        sparse_blocks=1,
    )


def test_ratios_are_of_sums_and_means_are_over_examples() -> None:
    metrics = summarise([row(1.0, blocks=1, sparse=2, tokens=4, decode=1.0), row(0.5, 3, 6, 20, 3.0)])
    assert metrics["score"] == 0.75 and metrics["exact_match"] == 0.5
    assert metrics["forwards_per_block"] == (3 + 11) / 4
    assert metrics["commit_forwards_per_block"] == 2 / 4
    assert metrics["tokens_per_forward"] == 24 / 14
    assert metrics["decode_seconds"] == pytest.approx(2.0)
    assert metrics["tokens_per_second"] == pytest.approx(24 / 4.0), "prefill is no part of it"
    assert metrics["sparse_token_share"] == 8 / 26
    assert metrics["sparse_block_share"] == 2 / 4


def test_an_answer_without_a_token_divides_by_nothing() -> None:
    empty = row(0.0, blocks=1, sparse=0, tokens=0, decode=0.0).model_copy(update={"tokens_decided": {"sparse": 0}})
    assert summarise([empty])["sparse_token_share"] == 0.0
    assert summarise([empty])["tokens_per_second"] == 0.0


def likelihoods(run: Callable[..., int], out: Path, *overrides: str) -> tuple[CellRecord, list[dict[str, Any]]]:
    assert run("method=dense", "model.prefix_attention=causal", *overrides) == 0
    (record,) = records(out).values()
    (lines,) = (path.read_text().splitlines() for path in out.glob("*/examples.jsonl"))
    return record, [json.loads(line) for line in lines]


def test_likelihood_tells_each_answer_and_the_perplexity_of_all(run: Callable[..., int], out: Path) -> None:
    record, rows = likelihoods(run, out, "runner.likelihood=true")
    assert [row["answer_nll_tokens"] for row in rows] == [sum(row["tokens_decided"].values()) for row in rows]
    nats, tokens = (sum(row[field] for row in rows) for field in ("answer_nll", "answer_nll_tokens"))
    assert record.metrics["answer_perplexity"] == pytest.approx(math.exp(nats / tokens))


def test_without_it_records_are_as_before_there_was_a_choice(run: Callable[..., int], out: Path) -> None:
    record, rows = likelihoods(run, out)
    assert "answer_perplexity" not in record.metrics
    assert all(field not in row for row in rows for field in ("answer_nll", "answer_nll_tokens"))


def test_it_changes_no_answer(run: Callable[..., int], out: Path, tmp_path: Path) -> None:
    (_, told) = likelihoods(run, out, "runner.likelihood=true")
    (_, plain) = likelihoods(run, tmp_path / "plain" / "t", f"output_dir={tmp_path / 'plain'}")
    measured = ("answer_nll", "answer_nll_tokens", "seconds")
    assert plain == [
        {k: v for k, v in row.items() if k not in measured} | {"seconds": p["seconds"]}
        for row, p in zip(told, plain, strict=True)
    ]


def test_likelihood_needs_a_causal_prefix(
    run: Callable[..., int], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("method=dense", "runner.likelihood=true") == 2
    assert capsys.readouterr().err.startswith("runner.likelihood=true: the model's prefix is not causal")
    assert not out.exists()


def test_a_method_that_keeps_the_prefix_has_one_cell_for_all_budgets(run: Callable[..., int], out: Path) -> None:
    assert run("-m", "method=flash_block", "budget=8,16") == 0
    found = records(out)
    assert set(found) == {"dense-all", "flash_block-all"}
    metrics, dense = (found[f"{name}-all"].metrics for name in ("flash_block", "dense"))
    assert metrics["density"] < dense["density"] == 1.0 and metrics["sparse_token_share"] > 0.0


def test_fused_commits_change_no_answer_and_are_told_of(
    run: Callable[..., int], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["examples=2", "budget=16", "model.block_size=4"]  # answers of some blocks
    assert run("-m", "method=mage,quest", "fuse_commit=false,true", *small) == 0
    told = capsys.readouterr().out
    assert "fuse_commit" in told, "the table tells the two apart"
    assert "fused" in told.replace("fuse_commit", ""), "and what became of it"
    found = {}
    for folder in (path for path in out.iterdir() if path.is_dir()):
        record = CellRecord.model_validate_json((folder / "record.json").read_bytes())
        rows = [
            ExampleResult.model_validate_json(line) for line in (folder / "examples.jsonl").read_text().splitlines()
        ]
        found[record.labels.method, record.config["fuse_commit"]] = record.metrics, rows
    assert len(found) == 6, "a reference for each"
    for method, fuses in (("mage", True), ("dense", True), ("quest", False)):
        (plain, wanted), (fused, got) = found[method, False], found[method, True]
        assert [row.prediction for row in got] == [row.prediction for row in wanted]
        assert [row.tokens_decided for row in got] == [row.tokens_decided for row in wanted]
        assert plain["commit_forwards_per_block"] > 0 and fused["score"] == plain["score"]
        left = 0.0 if fuses else plain["commit_forwards_per_block"]
        assert fused["commit_forwards_per_block"] == left
        joined = plain["commit_forwards_per_block"] - left
        assert (plain["fused_forwards_per_block"], fused["fused_forwards_per_block"]) == (0.0, joined)
        assert fused["exact_forwards_per_block"] == pytest.approx(plain["exact_forwards_per_block"] - joined)
        steps = sum(fused[f"{kind}_forwards_per_block"] for kind in ("exact", "fused", "sparse", "commit"))
        assert fused["forwards_per_block"] == pytest.approx(steps)
        assert (fused["seconds_fused"] > 0) == fuses and plain["seconds_fused"] == 0
        assert (fused["density"] > plain["density"]) == (method == "quest")
    check_analysis(load([out]))


def check_analysis(results: Results) -> None:
    """The tables of a mix tell the two apart, and compare answers with those of dense."""
    comparison = compare(results)
    points = comparison.points.set_index("method")
    assert set(points.index) == {m + way for m in ("dense", "mage", "quest") for way in ("", " (fuse_commit=true)")}
    assert points.loc["dense (fuse_commit=true)", "score_difference"] == 0.0
    for method in ("mage", "quest"):
        both = points.loc[[method, f"{method} (fuse_commit=true)"]]
        assert both.score_difference.notna().all() and both.score_difference.nunique() == 1
    table = cells_table(comparison)
    shown = table.cells.set_index("method")["fused fwd"]
    assert float(shown["mage (fuse_commit=true)"]) > 0 and "in one that fuses commits" in table.caption
    assert shown["mage"] == shown["quest (fuse_commit=true)"] == "0.00"


@pytest.mark.parametrize("capture", [True, False])
@pytest.mark.parametrize("runner", ["evaluate", "recall", "latency"])
def test_graphs_can_be_turned_off(
    run: Callable[..., int], out: Path, runner: str, capture: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Engine(engine.Engine):
        def __init__(self, *given: Any, capture: bool = True, **options: Any) -> None:
            asked.append(capture)
            super().__init__(*given, capture=capture, **options)

    monkeypatch.setattr(engine, "Engine", Engine)
    small = ["runner.context=32", "runner.rounds=1"] if runner == "latency" else ["examples=1"]
    overrides = ["method=mage", "budget=8", "dense_reference=false", f"runner={runner}", *small]
    assert run(*overrides, f"capture={str(capture).lower()}") == 0
    assert set(asked) == {capture}
    (record,) = records(out).values()
    assert record.config["capture"] is capture and not record.environment.capture, "there is no GPU"
