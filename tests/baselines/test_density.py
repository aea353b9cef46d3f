"""What a method reads, in attention and in choosing: the density that its accuracy is compared at."""

from __future__ import annotations

import pytest

from baselines.random import Random
from baselines.snapkv import SnapKV
from mage.budget import Budget
from mage.generation.decoding import Static
from mage.generation.engine import Engine
from mage.method import Method
from mage.models.checkpoint import LanguageModel
from tests.baselines.matrix import METHODS, generate, matrix
from tests.conftest import prompt

# Prefix entries read in one block of T = 4 steps over N = 72 entries at k = 8, a layer, commit left out (E1 of the
# catalogue: MAGE reads [1.5 N + (T - 1) k]): attention, and what choosing the set reads.
READS = {
    "mage": 72 + 36 + 3 * 8,
    "mage-step-2": 2 * 72 + 36 + 2 * 8,
    "mage-refresh": 2 * (72 + 36) + 2 * 8,
    "mage-pages": 72 + 36 + 3 * 8,
    "mage_v1-sparse-commit": 72 + 36 + 3 * 8,  # min_share=1: layers share alike
    "sparse_d": 72 + 36 + 3 * 8,
    "sparse_d-skip": 2 * 72 + 36 + 2 * 8,
    "oracle": 4 * (36 + 8),
    "quest": 4 * (18 + 8),  # 18 pages of 4
    "quest-odd-pages": 4 * (24 + 6),  # 24 pages of 3, two of them fit 8
    "quest-query-head": 4 * (18 + 2 * 8),  # two query heads a KV head, a set each
    "snapkv": 36 + 4 * 8,
    "snapkv-query-aware": 72 + 36 + 3 * 8,
    "snapkv-query-head": 36 + 4 * 2 * 8,
    "streaming_llm": 4 * 8,
    "random": 4 * 8,
    # Of 2 x 8 rows an output of 16 numbers and a log-sum-exp, where a token is 2 x 16 numbers of the same size.
    "flash_block": 72 + 3 * 8.5,
    "flash_block-refresh": 2 * (72 + 8.5),
}
# Layers that differ, summed: layer 1 is the correction layer, 2 reuses its set, and nothing reuses that of 0.
READS_OF_THREE_LAYERS = {name: 3 * reads for name, reads in READS.items()} | {
    "tidal_decode": 4 * (72 + (72 + 36) + 8),
    "tidal_decode-block": (72 + (72 + 36) + 8) + 36 + 3 * 3 * 8,
}


def reads_of_a_block(model: LanguageModel, method: Method) -> float:
    engine = Engine(model, method, Static(tokens_per_step=2))
    prefix = engine.prefill([prompt(72)], [8])
    block = engine.generate(prefix, Budget(8))[0].trace.blocks[0]
    assert sum(block.forwards.values()) == 4, "the test needs four steps and no commit"
    assert block.dense_reads == 3 * 4 * 72
    return block.reads


@pytest.mark.parametrize("name", READS_OF_THREE_LAYERS)
def test_density_counts_what_is_read(model: LanguageModel, name: str) -> None:
    assert reads_of_a_block(model, METHODS[name]) == READS_OF_THREE_LAYERS[name]


def test_layers_that_share_a_budget_are_counted_as_they_are(model: LanguageModel) -> None:
    """Three layers hold at most 3 x 8 entries; rounding loses less than one a layer."""
    sparse_steps = reads_of_a_block(model, METHODS["mage_v1"]) - 3 * (72 + 36)
    assert sparse_steps in (3 * 22, 3 * 23, 3 * 24)


@pytest.mark.parametrize("name", ["mage", "mage_v1", "sparse_d"])
def test_a_block_done_in_its_exact_steps_pays_for_no_selection(model: LanguageModel, name: str) -> None:
    engine = Engine(model, METHODS[name], Static(tokens_per_step=8))
    trace = engine.generate(engine.prefill([prompt(72, seed=1)], [24]), Budget(8))[0].trace
    assert trace.forwards == {"exact": 3, "fused": 0, "sparse": 0, "commit": 2} and trace.density == 1.0
    assert trace.seconds["selection"] == 0.0


@matrix
def test_a_row_done_in_its_first_step_pays_as_it_would_alone(model: LanguageModel, method: Method) -> None:
    """Seven of its first eight positions are prompt; the other row goes on and needs a set."""
    together = generate(model, method, 8, [71, 64])
    alone = [generate(model, method, 8, [length])[0] for length in (71, 64)]
    assert together[0].trace.blocks[0].forwards.total() < together[1].trace.blocks[0].forwards.total()
    for row, own in zip(together, alone):
        assert row.tokens == own.tokens and row.trace.density == pytest.approx(own.trace.density)


@pytest.mark.parametrize("query_aware", [False, True])
def test_snapkv_charges_its_compression_where_entries_are_dropped(model: LanguageModel, query_aware: bool) -> None:
    """A prompt within the budget outgrows it with its answer, alone or beside a row that is compressed at once."""
    method = SnapKV(window=4, query_aware=query_aware)
    together, alone = generate(model, method, 12, [9, 40]), generate(model, method, 12, [9])[0]
    assert len(alone.trace.blocks) > 1 and alone.trace.density == 1.0  # what is committed later is kept
    assert together[0].trace.density == 1.0 and together[0].tokens == alone.tokens
    assert together[1].trace.density == generate(model, method, 12, [40])[0].trace.density < 1.0


def test_a_set_for_the_whole_generation_is_chosen_where_it_is_planned(model: LanguageModel) -> None:
    """Seven of the first eight positions are prompt: that row needs no set in its first block, the other row does."""
    method = SnapKV(window=8, query_aware=True, commit="dense")
    together = generate(model, method, 8, [71, 64])
    for row, length in zip(together, (71, 64)):
        alone = generate(model, method, 8, [length])[0]
        assert row.tokens == alone.tokens
        assert [block.reads for block in row.trace.blocks] == [block.reads for block in alone.trace.blocks]


def test_a_commit_counts_the_whole_prefix_or_the_set(model: LanguageModel) -> None:
    reads = {}
    for commit in ("dense", "sparse"):
        trace = generate(model, Random(commit=commit), 8, [72])[0].trace
        assert trace.blocks[0].forwards == {"sparse": 4, "commit": 1}
        reads[commit] = trace.blocks[0].reads
    assert reads == {"dense": 3 * (4 * 8 + 72), "sparse": 3 * 5 * 8}
