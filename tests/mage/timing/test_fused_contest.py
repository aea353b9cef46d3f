"""A contest of engines that make the commit of a block part of the next one's first step."""

from __future__ import annotations

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
from mage.timing.summary import metrics_of
from mage.timing.workload import Workload, prefilled, without_stops

ROOFS = Roofs(bytes_per_second=1e9, flops_per_second=1e10)
CONTEXT, BLOCK, LAYERS, K = 64, 8, 3, 16


@pytest.mark.parametrize("warm", [0, 2])
def test_fused_commits_are_part_of_the_blocks_that_count(model: LanguageModel, warm: int) -> None:
    work = Workload(context=CONTEXT, blocks=2, warm_blocks=warm, fuse_commit=True)
    plain, methods = without_stops(model), {"mage": Mage(dense_layers=1), "quest": Quest(dense_layers=1, page_size=4)}
    dense = Engine(plain, Dense(), Static(), fuse_commit=True)
    prefix = prefilled(dense, work)
    assert prefix.max_new_tokens == [(warm + 3) * BLOCK] and work.positions(BLOCK) == CONTEXT + (warm + 3) * BLOCK
    first = CONTEXT + warm * BLOCK  # where a side without fused commits begins to count
    for name, method in methods.items():
        fused = name == "mage"
        engine = Engine(plain, method, Static(), fuse_commit=True)
        conditions, (timed,) = measure(dense, engine, Budget(K), prefix, work, ROOFS, rounds=1)
        assert conditions.empty_entries == (warm + 1) * BLOCK
        assert timed.round.dense.forwards == {"exact": BLOCK, "sparse": 0, "commit": 0}
        assert timed.round.method.forwards == (
            {"exact": 1, "sparse": BLOCK - 1, "commit": 0} if fused else {"exact": 0, "sparse": BLOCK, "commit": 1}
        )
        assert (timed.round.dense.fused, timed.round.method.fused) == (1, fused)
        assert timed.round.dense.tokens == timed.round.method.tokens == BLOCK
        assert timed.round.dense.reads == LAYERS * BLOCK * (first + 1.5 * BLOCK)
        commits = 0 if fused else first + BLOCK / 2
        mean = first + (1.5 if fused else 0.5) * BLOCK
        assert timed.round.method.dense_reads == LAYERS * (BLOCK * mean + commits)

        shape = Shape(model.body.config, 4, 1, BLOCK)
        step, both = (
            least_seconds(forward_parts(shape, LAYERS * (first + 1.5 * BLOCK), ahead=n), ROOFS) for n in (0, BLOCK)
        )
        assert timed.dense.block == pytest.approx((BLOCK - 1) * step + both) and both > step
        assert timed.dense.exact == pytest.approx(timed.dense.block / BLOCK) and timed.dense.commit is None
        if fused:
            assert timed.method.exact == pytest.approx(both)
        else:
            assert timed.method.exact is None
            assert timed.method.commit == pytest.approx(least_seconds(forward_parts(shape, LAYERS * mean), ROOFS))
        found = metrics_of(conditions, [timed])
        assert found["commit_forwards_per_block"] == (0 if fused else 1) and found["dense_forwards_per_block"] == BLOCK
        assert ("commit_seconds" in found) != fused
