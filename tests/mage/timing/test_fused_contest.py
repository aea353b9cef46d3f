"""A contest of engines that make the commit of a block part of the next one's first step."""

from __future__ import annotations

from dataclasses import replace

import pytest

from baselines.dense import Dense
from baselines.quest import Quest
from mage.budget import Budget
from mage.generation.decoding import Static
from mage.generation.engine import Engine
from mage.mage import Mage
from mage.models.checkpoint import LanguageModel
from mage.timing.counts import Shape, forward_parts, least_seconds
from mage.timing.latency import measure
from mage.timing.roofs import Roofs
from mage.timing.rounds import Round
from mage.timing.side import Side
from mage.timing.summary import metrics_of
from mage.timing.workload import Workload, prefilled, without_stops

ROOFS = Roofs(bytes_per_second=1e9, flops_per_second=1e10)
CONTEXT, BLOCK, LAYERS, K = 64, 8, 3, 16


@pytest.mark.parametrize("warm", [0, 2])
def test_both_sides_count_the_same_blocks(model: LanguageModel, warm: int) -> None:
    work = Workload(context=CONTEXT, blocks=2, warm_blocks=warm, fuse_commit=True)
    plain, methods = without_stops(model), {"mage": Mage(dense_layers=1), "quest": Quest(dense_layers=1, page_size=4)}
    dense = Engine(plain, Dense(), Static(), fuse_commit=True)
    prefix = prefilled(dense, work)
    assert prefix.max_new_tokens == [(warm + 3) * BLOCK + 1]  # the last of them is committed, too
    assert work.positions(BLOCK) == CONTEXT + (warm + 4) * BLOCK
    mean = CONTEXT + (warm + 1.5) * BLOCK  # entries before the blocks that count, of either side
    step, both = (
        least_seconds(forward_parts(Shape(model.body.config, 4, 1, BLOCK), LAYERS * mean, ahead=n), ROOFS)
        for n in (0, BLOCK)
    )
    assert both > step
    for name, method in methods.items():
        fused = name == "mage"
        engine = Engine(plain, method, Static(), fuse_commit=True)
        conditions, (timed,) = measure(dense, engine, Budget(K), prefix, work, ROOFS, rounds=1)
        assert conditions.empty_entries == (warm + 1) * BLOCK
        ours, theirs = timed.round.method, timed.round.dense
        assert theirs.forwards == {"exact": BLOCK - 1, "fused": 1, "sparse": 0, "commit": 0}
        assert ours.forwards == (
            {"exact": 0, "fused": 1, "sparse": BLOCK - 1, "commit": 0}
            if fused
            else {"exact": 0, "fused": 0, "sparse": BLOCK, "commit": 1}
        )
        assert theirs.tokens == ours.tokens == BLOCK
        assert theirs.reads == theirs.dense_reads == ours.dense_reads == LAYERS * BLOCK * mean

        assert (timed.dense.exact, timed.dense.fused, timed.dense.commit) == (
            pytest.approx(step),
            pytest.approx(both),
            None,
        )
        assert timed.dense.block == pytest.approx((BLOCK - 1) * step + both)
        assert timed.method.exact is None
        assert timed.method.fused == (pytest.approx(both) if fused else None)
        assert timed.method.commit == (None if fused else pytest.approx(step))
        found = metrics_of(conditions, [timed])
        assert found["commit_forwards_per_block"] == (not fused) and found["fused_forwards_per_block"] == fused
        assert found["dense_forwards_per_block"] == BLOCK and found["forwards_per_block"] == BLOCK + (not fused)
        assert ("commit_seconds" in found) != fused and ("fused_forward_seconds" in found) == fused
        assert "first_step_over_dense" not in found


def test_a_step_of_dense_is_no_commit(model: LanguageModel) -> None:
    """Made seconds: a step takes 1, a fused forward 5; what is said of single steps is of the former alone."""
    work = Workload(context=CONTEXT, fuse_commit=True)
    engines = [Engine(without_stops(model), m, Static(), fuse_commit=True) for m in (Dense(), Mage(dense_layers=1))]
    conditions, (timed,) = measure(*engines, Budget(K), prefilled(engines[0], work), work, ROOFS, rounds=1)
    dense, method = timed.round.dense, timed.round.method
    dense = replace(dense, seconds={**dense.seconds, "exact": BLOCK - 1.0, "fused": 5.0})
    method = replace(method, seconds={**method.seconds, "sparse": 0.5 * (BLOCK - 1), "fused": 6.0})
    found = metrics_of(conditions, [replace(timed, round=Round(dense, method, 0.25))])
    assert found["dense_step_seconds"] == 1.0 and found["sparse_step_speedup"] == 2.0
    assert (found["dense_fused_forward_seconds"], found["fused_forward_seconds"]) == (5.0, 6.0)
    assert found["sparse_step_bound"] == pytest.approx((timed.dense.exact or 0) / (timed.method.sparse or 1))


def test_where_each_step_is_fused_no_step_is_told_of(model: LanguageModel) -> None:
    work = Workload(context=CONTEXT, fuse_commit=True)
    dense = Engine(without_stops(model), Dense(), Static(tokens_per_step=BLOCK), fuse_commit=True)
    prefix = prefilled(dense, work)
    conditions, timed = measure(dense, dense, None, prefix, work, ROOFS, rounds=1)
    found = metrics_of(conditions, timed)
    assert found["fused_forwards_per_block"] == found["forwards_per_block"] == 1
    assert not {"dense_step_seconds", "empty_step_seconds", "exact_step_seconds", "sparse_step_speedup"} & set(found)


def test_a_side_may_fuse_in_part(model: LanguageModel) -> None:
    """A budget of 83: blocks open at 72, 80, 88 and 96 entries, of which Quest limits the last two."""
    work = Workload(context=CONTEXT, blocks=4, fuse_commit=True)
    plain = without_stops(model)
    dense, quest = (Engine(plain, m, Static(), fuse_commit=True) for m in (Dense(), Quest(dense_layers=1, page_size=4)))
    _, (timed,) = measure(dense, quest, Budget(83), prefilled(dense, work), work, ROOFS, rounds=1)
    assert timed.round.method.count("fused") == 2 / 4  # those that open at 72 and 80
    assert timed.round.method.count("commit") == 3 / 4  # of those that open at 80, 88 and 96
    assert timed.round.method.dense_reads == timed.round.dense.reads == LAYERS * BLOCK * (CONTEXT + 2.5 * BLOCK)


def test_rounds_without_fused_forwards_need_not_name_them() -> None:
    """As written before there were any."""
    side = Side(
        elapsed=9.0,
        forwards={"exact": 7.0, "sparse": 0.0, "commit": 1.0},
        seconds={"exact": 7.0, "sparse": 0.0, "commit": 2.0, "selection": 0.0},
        reads=1.0,
        dense_reads=1.0,
        tokens=8.0,
        peak_bytes=0.0,
    )
    assert side.count("fused") == 0 and side.step("fused") is None and side.total_forwards == 8
