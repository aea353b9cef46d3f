"""Dense and a method side by side on a small model: what is counted, and what bounds it."""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

import pytest
import torch

from baselines.dense import Dense
from baselines.flash_block import FlashBlock
from baselines.quest import Quest
from mage.attention.torch_operations import TorchOperations
from mage.budget import Budget
from mage.generation.decoding import Decoding, Static, Threshold
from mage.generation.engine import Engine
from mage.mage import Mage
from mage.method import Method
from mage.models.checkpoint import LanguageModel
from mage.timing.bound import Bound, Reading, bound_of
from mage.timing.contest import Contest
from mage.timing.counts import Part, Shape, forward_parts, least_seconds, selection_part
from mage.timing.dense import dense_seconds
from mage.timing.latency import measure
from mage.timing.roofs import Roofs
from mage.timing.rounds import Round
from mage.timing.side import Side
from mage.timing.summary import metrics_of
from mage.timing.workload import Workload, empty, prefilled, without_stops

ROOFS = Roofs(bytes_per_second=1e9, flops_per_second=1e10)
CONTEXT, BLOCK, LAYERS, K = 64, 8, 3, 16
WORK = Workload(context=CONTEXT)


def engines(model: LanguageModel, method: Method, decoding: Decoding) -> tuple[Engine, Engine]:
    plain = without_stops(model)
    return Engine(plain, Dense(), decoding), Engine(plain, method, decoding)


def one_round(model: LanguageModel, method: Method, decoding: Decoding, work: Workload = WORK) -> Round:
    dense, sparse = engines(model, method, decoding)
    contest = Contest(dense, sparse, Budget(K), prefilled(dense, work), empty(dense, work.batch, 0))
    return next(contest.rounds(1))


def bounds(model: LanguageModel, method: Method, found: Round) -> tuple[Bound, Bound]:
    shape = Shape(model.body.config, 4, 1, BLOCK)
    return tuple(
        bound_of(shape, ROOFS, Reading.of(each, K, LAYERS, BLOCK), side, CONTEXT)
        for each, side in ((Dense(), found.dense), (method, found.method))
    )


def seconds(model: LanguageModel, attended: float, read: float | None = None) -> float:
    return least_seconds(forward_parts(Shape(model.body.config, 4, 1, BLOCK), attended, read), ROOFS)


def slowed(side: Side) -> Side:
    return replace(side, elapsed=2 * side.elapsed)


def test_every_block_does_all_of_its_work_and_is_committed(model: LanguageModel) -> None:
    every = replace(model, spec=replace(model.spec, stop_ids=tuple(range(3, 61))))  # any token would end an answer
    found = one_round(every, Mage(dense_layers=1), Static(), Workload(context=CONTEXT, blocks=2))
    assert found.dense.forwards == {"exact": BLOCK, "fused": 0, "sparse": 0, "commit": 1}
    assert found.method.forwards == {"exact": 1, "fused": 0, "sparse": BLOCK - 1, "commit": 1}
    assert found.dense.tokens == found.method.tokens == BLOCK
    assert found.method.reads < found.dense.reads == found.dense.dense_reads == found.method.dense_reads
    assert found.empty_step > 0 and found.speedup > 0
    for side in (found.dense, found.method):
        assert sum(side.seconds.values()) <= 1.001 * side.elapsed
        assert side.peak_bytes > 2**20


def test_a_shifted_model_takes_a_step_less(shifted_model: LanguageModel) -> None:
    found = one_round(shifted_model, Mage(dense_layers=1), Static())
    assert found.method.forwards == {"exact": 1, "fused": 0, "sparse": BLOCK - 2, "commit": 1}


def test_rows_of_a_batch_share_forwards(model: LanguageModel) -> None:
    found = one_round(model, Mage(dense_layers=1), Threshold(threshold=0.5), Workload(context=CONTEXT, batch=3))
    assert found.method.tokens == 3 * BLOCK
    assert found.method.total_forwards <= BLOCK + 1
    assert found.method.dense_reads <= LAYERS * CONTEXT * found.method.total_forwards


def test_copies_decode_as_their_row_does(model: LanguageModel) -> None:
    dense, method = engines(model, Mage(dense_layers=1), Static())
    work = Workload(context=CONTEXT, batch=2, copies=True, seed=3)
    alone, copied = prefilled(dense, replace(work, batch=1)), prefilled(dense, work)
    (single,) = method.generate(alone, Budget(K))
    both = method.generate(copied, Budget(K))
    assert [row.tokens for row in both] == [single.tokens] * 2
    assert copied.cache.keys.shape[1] == 2 and copied.windows.shape[1] == 2


def test_bound_of_mage(model: LanguageModel) -> None:
    method = Mage(dense_layers=1)
    dense, bound = bounds(model, method, one_round(model, method, Static()))
    exact, sparse = seconds(model, LAYERS * CONTEXT), seconds(model, CONTEXT + 2 * K)
    shape = Shape(model.body.config, 4, 1, BLOCK)
    chosen = least_seconds([selection_part(shape, 2 * CONTEXT / 2, "positions")], ROOFS)
    assert dense.block == pytest.approx((BLOCK + 1) * exact)
    assert dense.sparse is dense.selection is None
    assert (bound.exact, bound.sparse, bound.commit) == pytest.approx((exact, sparse, exact))
    assert bound.selection == pytest.approx(chosen)
    assert bound.block == pytest.approx(2 * exact + chosen + (BLOCK - 1) * sparse)


@pytest.mark.parametrize(
    ("reduction", "share", "queries"), [("sum", "kv_head", 2), ("sum", "query_head", 4), ("max", "kv_head", 4 * BLOCK)]
)
def test_bound_of_quest_has_its_bounds_of_pages_in_every_step(
    model: LanguageModel, reduction: str, share: str, queries: int
) -> None:
    method = Quest(dense_layers=1, page_size=4, reduction=reduction, share=share)  # type: ignore[arg-type]
    _, bound = bounds(model, method, one_round(model, method, Static()))
    pages = 2 * CONTEXT / 4
    scores = Part("scores", pages * 2 * (2 * 16) * 4, pages * queries * 2 * (2 * 16))  # 2 KV heads, 4 query heads of 16
    assert bound.exact is bound.selection is None
    gathered = CONTEXT + 2 * K * (1 if share == "kv_head" else 2)
    forward = seconds(model, CONTEXT + 2 * K, gathered)
    assert bound.sparse == pytest.approx(forward + least_seconds([scores], ROOFS))
    assert bound.block == pytest.approx(BLOCK * bound.sparse + seconds(model, LAYERS * CONTEXT))


@pytest.mark.parametrize("commit", ["dense", "sparse"])
def test_bound_of_flash_block_reads_what_is_kept_and_attends_to_nothing(model: LanguageModel, commit: str) -> None:
    method = FlashBlock(dense_layers=1, commit=commit)  # type: ignore[arg-type]
    _, bound = bounds(model, method, one_round(model, method, Static()))
    kept = 2 * BLOCK * (16 + 1) / (2 * 16)  # 2 query heads a KV head, of 16 dimensions
    exact, sparse = seconds(model, LAYERS * CONTEXT), seconds(model, CONTEXT, CONTEXT + 2 * kept)
    assert (bound.exact, bound.sparse, bound.selection) == pytest.approx((exact, sparse, None))
    assert bound.commit == pytest.approx(exact if commit == "dense" else sparse)
    assert bound.block == pytest.approx(exact + (BLOCK - 1) * sparse + bound.commit)


def test_a_sparse_commit_is_bound_as_a_sparse_step(model: LanguageModel) -> None:
    method = Mage(dense_layers=1, commit="sparse")
    _, bound = bounds(model, method, one_round(model, method, Static()))
    assert bound.commit == bound.sparse == pytest.approx(seconds(model, CONTEXT + 2 * K))


def test_dense_attention_is_timed_by_implementation(model: LanguageModel) -> None:
    dense, _ = engines(model, Mage(), Static())
    found = dense_seconds(prefilled(dense, WORK), model.body.config.num_heads, BLOCK, [dense.operations])
    assert list(found.seconds) == ["torch", "torch SDPA"] and min(found.seconds.values()) > 0
    assert found.absent == {}


def test_why_an_implementation_is_absent_is_told(model: LanguageModel) -> None:
    class Failing(TorchOperations):
        def exact(self, *_: object) -> NoReturn:
            raise RuntimeError("no such shape\nand more")

    dense, _ = engines(model, Mage(), Static())
    found = dense_seconds(prefilled(dense, WORK), model.body.config.num_heads, BLOCK, [Failing()])
    assert found.absent == {"torch": "RuntimeError: no such shape"} and list(found.seconds) == ["torch SDPA"]


def test_blocks_that_warm_up_are_told_apart(model: LanguageModel) -> None:
    dense, method = engines(model, Mage(dense_layers=1), Static())
    work = replace(WORK, warm_blocks=2)
    conditions, timed = measure(dense, method, Budget(K), prefilled(dense, work), work, ROOFS, rounds=1)
    found = metrics_of(conditions, timed)
    assert (conditions.warm_blocks, conditions.empty_entries) == (2, 2 * BLOCK)
    assert found["warm_up_seconds"] > 0 and found["dense_warm_up_seconds"] > found["dense_block_seconds"] / 2
    assert found["empty_step_entries"] == 2 * BLOCK and found["captures"] == 0


def test_recordings_made_on_the_clock_are_counted(model: LanguageModel) -> None:
    dense, _ = engines(model, Mage(), Static())
    (generation,) = dense.generate(prefilled(dense, replace(WORK, blocks=3)))
    generation.trace.blocks[0].captures, generation.trace.blocks[2].captures = 4, 1
    found = Side.of([generation], 0.0, skipped=1)
    assert found.captures == 0.5
    assert found.warm_up == generation.trace.blocks[0].elapsed


def test_metrics_are_medians_and_leave_out_what_a_method_has_not(model: LanguageModel) -> None:
    method = Mage(dense_layers=1)
    dense, sparse = engines(model, method, Static())
    prefix = prefilled(dense, WORK)
    conditions, timed = measure(dense, sparse, Budget(K), prefix, WORK, ROOFS, rounds=6, prefill_peak_bytes=1.0)
    found = metrics_of(conditions, timed)
    speedups = sorted(one.round.speedup for one in timed)
    assert found["speedup"] == pytest.approx((speedups[2] + speedups[3]) / 2)
    assert (found["speedup_low"], found["speedup_high"]) == (speedups[0], speedups[-1])
    ratio = timed[0].dense.block / timed[0].method.block
    assert found["bound_speedup"] == pytest.approx(ratio) and ratio > 1
    of_roof = sorted(one.method.block / one.round.method.elapsed for one in timed)
    assert found["roof_share"] == pytest.approx((of_roof[2] + of_roof[3]) / 2)
    slow = metrics_of(conditions, [replace(t, round=replace(t.round, dense=slowed(t.round.dense))) for t in timed])
    assert slow["roof_share"] == found["roof_share"] and slow["speedup"] == pytest.approx(2 * found["speedup"])
    assert slow["dense_roof_share"] == pytest.approx(found["dense_roof_share"] / 2)
    assert "warm_up_seconds" not in found and found["prefill_rows"] == 1
    assert found["forwards_per_block"] == found["dense_forwards_per_block"] == BLOCK + 1
    assert found["tokens_per_second"] > 0 and 0 < found["density"] < 1
    for name in ("sparse_step_speedup", "sparse_step_over_empty", "first_step_over_dense", "prefill_rate_share"):
        assert found[name] > 0
    slower = replace(conditions, dense_attention={"torch": 2.0, "torch SDPA": 1.0}, prefill_peak_bytes=None)
    other = metrics_of(slower, timed)
    lost = [(one.round.dense.elapsed - (BLOCK + 1) * 1.0) / one.round.method.elapsed for one in timed]
    assert other["speedup_over_best"] == pytest.approx(torch.tensor(lost).double().quantile(0.5).item())
    assert slower.dense_reference == "torch SDPA" and "prefill_rate_share" not in other
    alone = metrics_of(replace(conditions, dense_attention={"torch SDPA": 1.0}), timed)
    assert "speedup_over_best" not in alone and alone["best_dense_attention_seconds"] == 1.0
    assert replace(conditions, dense_attention={}).dense_reference is None
    control = metrics_of(
        conditions, [replace(t, round=replace(t.round, method=t.round.dense), method=t.dense) for t in timed]
    )
    assert control["speedup"] == control["bound_speedup"] == 1.0
    assert "sparse_step_speedup" not in control and "sparse_step_seconds" not in control
    assert found["selection_seconds_per_block"] > 0 and "selection_seconds_per_block" not in control


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("each_step", [False, True])
def test_what_captured_steps_select_has_no_time_of_its_own(
    model: LanguageModel, captured: bool, each_step: bool
) -> None:
    """There the time that is left is that of keeping up with the prefix: no selection, but part of a step."""
    method = Quest(dense_layers=1, page_size=4) if each_step else Mage(dense_layers=1)
    dense, sparse = engines(model, method, Static())
    conditions, timed = measure(dense, sparse, Budget(K), prefilled(dense, WORK), WORK, ROOFS, rounds=1)
    found = metrics_of(replace(conditions, captured=captured), timed)
    seconds, count = timed[0].round.method.seconds, timed[0].round.method.count("sparse")
    told = found.get("selection_seconds_per_block")
    assert told == (None if captured and each_step else seconds["selection"])
    alone = seconds["sparse"] + each_step * seconds["selection"]
    assert found["sparse_step_seconds"] == pytest.approx(alone / count)
