"""Bytes and operations of a forward against sums written out by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from mage.models.config import Experts
from mage.models.families.registry import body_config
from mage.timing.counts import (
    Part,
    Shape,
    forward_parts,
    least_seconds,
    prefill_parts,
    selection_part,
    touched_experts,
)
from mage.timing.roofs import Roofs
from tests.conftest import CONFIG

BODY = body_config(CONFIG)  # 3 layers, hidden 32, inner 48, 4 heads and 2 KV heads of 16, 61 tokens
SHAPE = Shape(BODY, itemsize=2, batch=2, rows=8)
LAYER = 32 * 64 + 2 * 32 * 32 + 64 * 32  # q, k and v, o


def by_name(parts: list[Part]) -> dict[str, Part]:
    return {part.name: part for part in parts}


def test_a_forward_reads_each_weight_once_and_multiplies_it_by_every_position() -> None:
    parts = by_name(forward_parts(SHAPE, 3 * 100))
    weights = {"projections": 3 * LAYER, "feed-forward": 3 * 3 * 32 * 48, "logits": 32 * 61}
    for name, count in weights.items():
        assert parts[name] == Part(name, 2 * count, 2 * 16 * count)


def test_attention_reads_keys_and_values_once_and_scores_them_in_every_head() -> None:
    attention = by_name(forward_parts(SHAPE, 3 * 100))["attention"]
    assert attention.bytes == 2 * 3 * 100 * 2 * (2 * 16) * 2  # batch, layers, entries, K and V, KV heads * d, bytes
    assert attention.flops == 2 * 8 * 3 * (100 + 8) * 4 * 16 * 4  # batch, rows, layers, entries and block, heads * d


def test_a_commit_in_the_same_forward_multiplies_and_reads_nothing_more() -> None:
    alone, both = (by_name(forward_parts(SHAPE, 3 * 100, ahead=n)) for n in (0, 5))
    assert {name: part.bytes for name, part in both.items()} == {name: part.bytes for name, part in alone.items()}
    for name in ("projections", "feed-forward"):
        assert both[name].flops == alone[name].flops * (5 + 8) / 8
    assert both["logits"] == alone["logits"]
    assert both["attention"].flops == alone["attention"].flops + 2 * 5 * 3 * 100 * 4 * 16 * 4


def test_a_set_costs_what_it_holds_and_metadata_cost_bytes_alone() -> None:
    full, sparse, paged = (by_name(forward_parts(SHAPE, *a))["attention"] for a in ((300,), (60,), (60, 90)))
    assert sparse.bytes == full.bytes / 5
    assert (paged.bytes, paged.flops) == (1.5 * sparse.bytes, sparse.flops)


def test_scoring_all_keys_again_is_half_of_attention() -> None:
    attention = by_name(forward_parts(SHAPE, 300))["attention"]
    scored, listed = (selection_part(SHAPE, 150, s) for s in ("positions", "nothing"))
    in_block = 2 * 8 * 3 * 8 * 4 * 16 * 4
    assert scored.bytes == listed.bytes == attention.bytes / 2
    assert (scored.flops, listed.flops) == ((attention.flops - in_block) / 2, 0.0)


def test_bounds_of_pages_are_multiplied_by_positions_or_by_their_sum() -> None:
    flops = {s: selection_part(SHAPE, 3 * 25, s).flops for s in ("positions", "query_heads", "kv_heads")}
    by_a_row = 2 * 3 * 25 * 2 * (2 * 16)  # batch, layers, pages, products, multiplications and additions of d
    assert flops == {"positions": by_a_row * 8 * 4, "query_heads": by_a_row * 4, "kv_heads": by_a_row * 2}


def test_experts_are_read_as_far_as_they_are_taken() -> None:
    experts = Experts(count=8, per_token=2, intermediate_size=24, shared_size=16, dense_layers=(0,))
    shape = replace(SHAPE, body=replace(BODY, experts=experts))
    parts = by_name(forward_parts(shape, 300))
    one, every = 3 * 32 * 24, 32 * 8 + 3 * 32 * 16
    assert parts["feed-forward"].bytes == 2 * 3 * 32 * 48  # the dense layer
    assert parts["experts"].bytes == pytest.approx(2 * 2 * (touched_experts(experts, 16) * one + every))
    assert parts["experts"].flops == 2 * 16 * 2 * (2 * one + every)


def test_touched_experts() -> None:
    experts = Experts(count=8, per_token=2, intermediate_size=24)
    assert touched_experts(experts, 1) == pytest.approx(2)
    assert touched_experts(experts, 2) == pytest.approx(2 + 2 * 6 / 8)
    assert touched_experts(experts, 10_000) == pytest.approx(8)
    routed = replace(experts, capacity=3, block_size=8)
    assert touched_experts(routed, 8) == 3
    assert touched_experts(routed, 16) == pytest.approx(6)


@pytest.mark.parametrize(("unit", "chunk"), [*product((1, 8), (None, 16))])
def test_prefill_counts_every_pair_that_sees_each_other(unit: int, chunk: int | None) -> None:
    tokens = 48
    pairs = sum(p // unit >= j // unit for p in range(tokens) for j in range(tokens))
    parts = by_name(prefill_parts(SHAPE, tokens, unit=unit, chunk=chunk))
    assert parts["attention"].flops == 2 * 3 * pairs * 4 * 16 * 4
    assert parts["projections"].flops == 2 * 2 * tokens * 3 * LAYER
    assert parts["projections"].bytes == (1 if chunk is None else 3) * 2 * 3 * LAYER
    entries = tokens + (0 if chunk is None else 16 + 32)
    assert parts["attention"].bytes == 2 * 3 * entries * 2 * (2 * 16) * 2
    assert parts["logits"].flops == 2 * 2 * 32 * 61


def test_parts_follow_each_other_at_the_nearer_roof() -> None:
    parts = [Part("a", 100, 10), Part("b", 10, 100)]
    assert least_seconds(parts, Roofs(bytes_per_second=10, flops_per_second=5)) == 10 + 20
