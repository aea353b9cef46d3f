"""FlashBlock against attention that is written out, step by step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from baselines.dense import Dense
from baselines.flash_block import FlashBlock
from mage.attention.block import BlockAttention
from mage.errors import UserError
from mage.generation.decoding import Static
from mage.generation.engine import Engine
from mage.method import EXACT, KEEP_PREFIX, REUSE_PREFIX, Method
from mage.models.checkpoint import LanguageModel
from mage.view import KEPT_QUERIES, Forward, Request
from tests.baselines.matrix import LENGTHS, generate
from tests.conftest import prompt
from tests.mage.prefix_store import RandomPrefix, attend_to

KV_HEADS, GROUP, ROWS, DIM = 2, 3, 4, 8
Block = tuple[Tensor, Tensor, Tensor]  # q, k, v


def draw(seed: int, batch: int) -> Block:
    torch.manual_seed(seed)
    own = torch.randn(2, batch, KV_HEADS, ROWS, DIM)
    return 2 * torch.randn(batch, KV_HEADS * GROUP, ROWS, DIM), own[0], own[1]


def outputs(method: Method, prefix: RandomPrefix, blocks: list[Block], *, commit: bool = False) -> list[Tensor]:
    """Attend once a step, each time with other tensors; the last one may be the commit."""
    lengths, layers = prefix.lengths, len(prefix.keys)
    windows = torch.zeros(layers, len(lengths), KV_HEADS * GROUP, KEPT_QUERIES, DIM)
    request = Request(ROWS, lengths, lengths, windows, [str(n) for n in lengths], 0)
    attention = BlockAttention(method, prefix, request, shadow=False, observer=None)
    found = []
    for step, block in enumerate(blocks, 1):
        forward = Forward(1, step, commit=commit and step == len(blocks))
        attention.begin(forward, lengths, torch.zeros(len(lengths), ROWS, dtype=torch.bool), lambda: 0)
        found += [attention(layer, *block) for layer in range(layers)]
        attention.end()
    return found


def by_hand(prefix: RandomPrefix, first: Block, now: Block) -> Tensor:
    """The prefix is weighed and averaged by the queries of the first step, the block by those of now."""
    out = torch.empty_like(now[0])
    for b, head, row in torch.cartesian_prod(*map(torch.arange, out.shape[:3])).tolist():
        kv, scale = head // GROUP, DIM**-0.5
        keys, values = (store[0, b, kv, : prefix.lengths[b]] for store in (prefix.keys, prefix.values))
        outside = torch.exp(keys @ first[0][b, head, row] * scale)
        inside = torch.exp(now[1][b, kv] @ now[0][b, head, row] * scale)
        mean = (outside @ values) / outside.sum() if len(keys) else torch.zeros(DIM)
        kept = outside.sum() * mean
        out[b, head, row] = (kept + inside @ now[2][b, kv]) / (outside.sum() + inside.sum())
    return out


@pytest.mark.parametrize("lengths", [[20], [20, 0, 7]], ids=["one", "uneven"])
def test_later_steps_weigh_the_prefix_as_the_first_did(lengths: list[int]) -> None:
    prefix = RandomPrefix(lengths, KV_HEADS, DIM)
    blocks = [draw(seed, len(lengths)) for seed in (1, 2, 3)]
    found = outputs(FlashBlock(), prefix, blocks)
    for out, now in zip(found, blocks, strict=True):
        torch.testing.assert_close(out, by_hand(prefix, blocks[0], now), atol=1e-5, rtol=1e-5)
    assert (found[1] - by_hand(prefix, blocks[1], blocks[1])).abs().max() > 0.01, "the queries make no difference"


def test_a_refreshed_prefix_is_that_of_the_last_exact_step() -> None:
    prefix = RandomPrefix([20, 9], KV_HEADS, DIM)
    blocks = [draw(seed, 2) for seed in range(5)]
    found = outputs(FlashBlock(refresh_every=2), prefix, blocks)
    for out, now, source in zip(found, blocks, (0, 0, 2, 2, 4), strict=True):
        torch.testing.assert_close(out, by_hand(prefix, blocks[source], now), atol=1e-5, rtol=1e-5)


def test_a_step_that_repeats_another_is_exact() -> None:
    prefix = RandomPrefix([20, 0, 7], KV_HEADS, DIM)
    step = draw(1, 3)
    exact = outputs(Dense(), prefix, [step])[0]
    for out in outputs(FlashBlock(), prefix, [step] * 3):
        torch.testing.assert_close(out, exact, atol=1e-5, rtol=1e-5)
    q = step[0][0, 0, 0]
    whole = attend_to(q, [prefix.keys[0, 0, 0, :20], step[1][0, 0]], [prefix.values[0, 0, 0, :20], step[2][0, 0]])
    torch.testing.assert_close(exact[0, 0, 0], whole, atol=1e-5, rtol=1e-5)


def test_layers_keep_a_part_of_their_own_and_dense_ones_none() -> None:
    prefix = RandomPrefix([20], KV_HEADS, DIM, layers=3)
    blocks = [draw(seed, 1) for seed in (1, 2)]
    found, exact = (outputs(method, prefix, blocks)[3:] for method in (FlashBlock(dense_layers=1), Dense()))
    assert torch.equal(found[0], exact[0])
    assert not torch.allclose(found[1], exact[1], atol=1e-3)
    one = RandomPrefix([20], KV_HEADS, DIM)
    for layer in (1, 2):
        one.keys, one.values = prefix.keys[layer:], prefix.values[layer:]
        torch.testing.assert_close(found[layer], by_hand(one, *blocks), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("commit", ["dense", "sparse"])
def test_a_commit_attends_exactly_or_to_what_is_kept(commit: str) -> None:
    prefix = RandomPrefix([20], KV_HEADS, DIM)
    first, last = draw(1, 1), draw(2, 1)
    out = outputs(FlashBlock(commit=commit), prefix, [first, last], commit=True)[1]  # type: ignore[arg-type]
    source = first if commit == "sparse" else last
    torch.testing.assert_close(out, by_hand(prefix, source, last), atol=1e-5, rtol=1e-5)


def test_the_commit_of_a_block_without_steps_is_exact() -> None:
    """Nothing was kept in it, whatever the block before has kept."""
    prefix, block = RandomPrefix([20], KV_HEADS, DIM), draw(1, 1)
    request = Request(ROWS, [20], [20], torch.zeros(1, 1, KV_HEADS * GROUP, KEPT_QUERIES, DIM), ["0"], 0)
    attention = BlockAttention(FlashBlock(commit="sparse"), prefix, request, shadow=False, observer=None)
    for forward, plan in (
        (Forward(1, 1, commit=True), EXACT),
        (Forward(2, 1), KEEP_PREFIX),
        (Forward(2, 2, commit=True), REUSE_PREFIX),
        (Forward(3, 1, commit=True), EXACT),
    ):
        attention.begin(forward, [20], torch.zeros(1, ROWS, dtype=torch.bool), lambda: 0)
        assert attention.now.plan == plan
        attention(0, *block)
        attention.end()
        assert attention.sparse_rows == [not plan.exact]


def test_a_cache_of_half_the_size_makes_what_is_kept_count_twice() -> None:
    prefix, reads = RandomPrefix([20, 0], KV_HEADS, DIM), []
    for dtype in (torch.float32, torch.float16):
        prefix.keys, prefix.values = prefix.keys.to(dtype), prefix.values.to(dtype)
        request = Request(ROWS, [20, 0], [20, 0], torch.zeros(1, 2, KV_HEADS * GROUP, KEPT_QUERIES, DIM), ["0", "1"], 0)
        attention = BlockAttention(FlashBlock(), prefix, request, shadow=False, observer=None)
        for step in (1, 2):
            attention.begin(Forward(1, step), [20, 0], torch.zeros(2, ROWS, dtype=torch.bool), lambda: 0)
            attention(0, *(tensor.to(dtype) for tensor in draw(1, 2)))
            attention.end()
            reads.append(attention.reads)
        assert attention.sparse_rows == [True, False] and attention.dense_reads == [20, 0]
    kept = GROUP * ROWS * (DIM + 1) / (2 * DIM)
    assert reads == [[20, 0], [kept] * 2, [20, 0], [2 * kept] * 2]


def test_blocks_of_one_step_are_dense(model: LanguageModel) -> None:
    results = []
    for method in (FlashBlock(), Dense()):
        engine = Engine(model, method, Static(tokens_per_step=8))
        results.append(engine.generate(engine.prefill([prompt(72, seed=1)], [24]))[0])
    assert results[0].tokens == results[1].tokens
    assert results[0].trace.forwards == results[1].trace.forwards and results[0].trace.density == 1.0


def test_steps_after_the_first_are_sparse(model: LanguageModel) -> None:
    for row, length in zip(generate(model, FlashBlock(), 1, LENGTHS), LENGTHS, strict=True):
        forwards = row.trace.forwards
        assert row.trace.budget_tokens is None and row.trace.seconds["selection"] == 0.0
        if length == 3:  # its first block has no prefix that a step could leave out
            assert forwards["exact"] > forwards["sparse"] > 0
        else:
            assert forwards["sparse"] > forwards["exact"] > 0 and row.trace.density < 1.0


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match="refresh_every=-1"):
        replace(FlashBlock(), refresh_every=-1)
