"""The metrics of a cell, from rows written by hand."""

from __future__ import annotations

import pytest

from runners.evaluate import summarise
from runners.record import ExampleResult


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
