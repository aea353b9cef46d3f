"""Prefill, denoising and commit, against forwards over the whole sequence."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from baselines.dense import Dense
from mage.attention.block import BlockAttention
from mage.errors import UserError
from mage.generation.decoding import Decoding, Entropy, Sequential, Static, Threshold
from mage.generation.editing import Edit
from mage.generation.engine import Engine
from mage.generation.session import Generation
from mage.models.checkpoint import LanguageModel
from mage.view import Forward, Request
from tests.conftest import prompt, spec
from tests.mage import naive

BLOCK = 8


def generate(
    model: LanguageModel, tokens: list[int], new: int, decoding: Decoding, own_stops: list[int] | None = None
) -> Generation:
    engine = Engine(model, Dense(), decoding)
    return engine.generate(engine.prefill([tokens], [new]), stop_ids=[own_stops or []])[0]


POLICIES: list[tuple[Decoding, naive.Rule]] = [
    (Static(), naive.fill(naive.static(lambda step: 1))),
    (Static(tokens_per_step=3), naive.fill(naive.static(lambda step: 3))),
    (Static(steps=3), naive.fill(naive.static(lambda step: 3 if step <= 2 else 2))),
    (Static(steps=5, sub_block=3), naive.fill(naive.static(lambda step: 2 if step <= 3 else 1), 3)),
    (Static(steps=30), naive.fill(naive.static(lambda step: 1))),
    (Threshold(threshold=0.2), naive.fill(naive.threshold(0.2))),
    (Threshold(threshold=0.2, at_least=3), naive.fill(naive.threshold(0.2, 3))),
    (Threshold(threshold=0.2, sub_block=4), naive.fill(naive.threshold(0.2), 4)),
    (Sequential(tokens_per_step=2), naive.fill(naive.sequential(2))),
    (Entropy(bound=4.0), naive.fill(naive.entropy(4.0))),
    (Entropy(bound=0.0, sub_block=2), naive.fill(naive.entropy(0.0), 2)),
    (Edit(threshold=0.2, editing_threshold=0.3), naive.edit(0.2, 0.3, 1, 16)),
    (Edit(threshold=0.2, editing_threshold=0.0, num_to_transfer=3, max_post_steps=4), naive.edit(0.2, 0.0, 3, 4)),
]


@pytest.mark.parametrize("length", [1, 7, 8, 9, 16, 40])
@pytest.mark.parametrize("alignment", ["same", "shifted"])
def test_every_policy_equals_full_forwards(
    model: LanguageModel, shifted_model: LanguageModel, length: int, alignment: str
) -> None:
    chosen = model if alignment == "same" else shifted_model
    tokens = prompt(length, seed=length)
    for decoding, rule in POLICIES:
        expected = naive.generate(chosen, tokens, 21, rule)
        assert generate(chosen, tokens, 21, decoding).tokens == expected, decoding


@pytest.mark.parametrize("length", [5, 16])
@pytest.mark.parametrize("routing", [{}, {"expert_capacity": 5, "block_size": BLOCK}], ids=["by-token", "by-block"])
def test_a_llada2_body_equals_full_forwards(model: LanguageModel, length: int, routing: dict[str, int]) -> None:
    """Experts chosen by block need whole blocks in every forward."""
    chosen = replace(model, body=naive.tiny_body("llada2_moe", **routing))
    tokens = prompt(length, seed=length)
    for decoding, rule in (POLICIES[6], POLICIES[11]):
        assert generate(chosen, tokens, 21, decoding).tokens == naive.generate(chosen, tokens, 21, rule)


@pytest.mark.parametrize("length", [1, 31, 32, 33, 63, 64, 65])
@pytest.mark.parametrize("sub_block", [None, 8])
def test_fast_dllm_v2_at_the_edges_of_its_blocks(model: LanguageModel, length: int, sub_block: int | None) -> None:
    chosen = replace(model, body=naive.tiny_body("qwen2"), spec=spec(32, "shifted"))
    tokens = prompt(length, seed=length)
    assert Engine(chosen, Dense(), Static()).prefill([tokens], [1]).lengths == [length // 32 * 32]
    decoding = Threshold(threshold=0.3, sub_block=sub_block)
    result = generate(chosen, tokens, 70, decoding)
    assert result.tokens == naive.generate(chosen, tokens, 70, naive.fill(naive.threshold(0.3), sub_block))
    assert (result.trace.blocks[0].tokens_decided["seed"] == 1) == (length % 32 == 0)


@pytest.mark.parametrize("family", naive.FAMILIES)
def test_cached_logits_equal_the_rows_of_a_full_forward(model: LanguageModel, family: str) -> None:
    model = replace(model, body=naive.tiny_body(family))
    tokens = prompt(4 * BLOCK)
    engine = Engine(model, Dense(), Static())
    prefix = engine.prefill([tokens[: 3 * BLOCK]], [BLOCK])
    request = Request(BLOCK, prefix.lengths, [24], prefix.windows, ["0"], 0)
    attention = BlockAttention(Dense(), prefix.cache, request, shadow=False, observer=None)
    block = torch.tensor([tokens[3 * BLOCK :]])
    attention.begin(Forward(1, 1), prefix.lengths, torch.zeros_like(block, dtype=torch.bool), lambda: 0.0)
    with torch.no_grad():
        hidden = model.body.hidden(block, torch.arange(3 * BLOCK, 4 * BLOCK)[None], attention)
        cached = model.body.logits(hidden)[0]
    torch.testing.assert_close(cached, naive.forward(model, tokens, 3 * BLOCK)[3 * BLOCK :], atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("chunk", [8, 16, 24, 80])
def test_chunked_prefill_equals_one_pass(model: LanguageModel, chunk: int) -> None:
    prompts = [prompt(75, 1), prompt(30, 2)]
    whole = Engine(model, Dense(), Static()).prefill(prompts, [8, 8])
    parts = Engine(model, Dense(), Static(), prefill_chunk=chunk).prefill(prompts, [8, 8])
    assert whole.lengths == parts.lengths == [72, 24]
    for row, length in enumerate(whole.lengths):
        for a, b in ((whole.cache.keys, parts.cache.keys), (whole.cache.values, parts.cache.values)):
            torch.testing.assert_close(a[:, row, :, :length], b[:, row, :, :length], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(whole.windows, parts.windows, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(whole.last_logits, parts.last_logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("chunk", [4, 12])
def test_a_chunk_that_splits_blocks_is_refused(model: LanguageModel, chunk: int) -> None:
    with pytest.raises(UserError, match=f"prefill_chunk={chunk}"):
        Engine(model, Dense(), Static(), prefill_chunk=chunk).prefill([prompt(40)], [8])


def test_committed_keys_do_not_depend_on_the_denoising_history(model: LanguageModel) -> None:
    tokens = prompt(20, seed=3)
    engine = Engine(model, Dense(), Sequential(tokens_per_step=1))
    prefix = engine.prefill([tokens], [20])
    written = engine.generate(prefix)[0].tokens
    after = prefix.cache.keys[:, :, :, :32].clone()
    sequence = (tokens + written)[:32]
    assert len(sequence) == 32, "the test needs an answer that fills the block"
    fresh = engine.prefill([sequence], [8]).cache.keys[:, :, :, :32]
    torch.testing.assert_close(after, fresh, atol=1e-5, rtol=1e-5)


def test_a_prefix_can_be_decoded_from_again(model: LanguageModel) -> None:
    engine = Engine(model, Dense(), Static())
    prefix = engine.prefill([prompt(30)], [20])
    assert engine.generate(prefix)[0].tokens == engine.generate(prefix)[0].tokens


def rigged(model: LanguageModel, favourite: int) -> LanguageModel:
    """The same model, but every position strongly proposes one token."""
    body = copy.deepcopy(model.body)
    with torch.no_grad():
        body.model.norm.weight.zero_()
        body.model.norm.weight[0] = 1.0
        body.lm_head.weight.zero_()
        body.lm_head.weight[favourite, 0] = 5.0
        body.model.embed_tokens.weight[:, 0] = 40.0  # dominates the residual stream
    return replace(model, body=body)


@pytest.mark.parametrize(
    "decoding",
    [Threshold(), Static(tokens_per_step=3), Sequential(), Entropy(), Edit()],
    ids=lambda d: type(d).__name__,
)
def test_the_mask_is_never_emitted(model: LanguageModel, decoding: Decoding) -> None:
    result = generate(rigged(model, model.spec.mask_id), prompt(12), 20, decoding)
    assert model.spec.mask_id not in result.tokens
    assert len(result.tokens) == 20 or result.stopped


def test_a_stop_token_ends_the_answer(model: LanguageModel) -> None:
    result = generate(rigged(model, 2), prompt(12), 40, Static())
    assert result.stopped and result.trace.forwards["commit"] == 0
    assert result.tokens == [] or result.tokens[-1] != 2


def test_a_rows_own_stop_ids_end_its_answer_except_as_the_first_token(model: LanguageModel) -> None:
    engine = Engine(rigged(model, 7), Dense(), Static())
    prefix = engine.prefill([prompt(12), prompt(16), prompt(3)], [12, 12, 12])
    results = engine.generate(prefix, stop_ids=[[7], [5, 7], []])
    assert [r.tokens for r in results] == [[7], [7], [7] * 12]
    assert [r.stopped for r in results] == [True, True, False]
    assert results[0].trace.tokens_decided["exact"] == 2, "the stop token is counted"


@pytest.mark.parametrize("length", [8, 13])
def test_own_stop_ids_equal_full_forwards(model: LanguageModel, shifted_model: LanguageModel, length: int) -> None:
    tokens, own = prompt(length, seed=length), list(range(3, 61, 6))
    for chosen in (model, shifted_model):
        for decoding, rule in POLICIES[1:8]:
            expected = naive.generate(chosen, tokens, 21, rule, own)
            assert generate(chosen, tokens, 21, decoding, own).tokens == expected


@pytest.mark.parametrize("new", [1, 3, 4, 5, 12, 13])
def test_no_more_than_max_new_tokens(model: LanguageModel, new: int) -> None:
    result = generate(rigged(model, 7), prompt(12), new, Static())
    assert len(result.tokens) == new and not result.stopped
    assert result.trace.forwards == {"exact": new, "fused": 0, "sparse": 0, "commit": len(result.trace.blocks) - 1}


def test_trace_counts_every_token_once(model: LanguageModel, shifted_model: LanguageModel) -> None:
    for chosen in (model, shifted_model):
        result = generate(chosen, prompt(16), 24, Threshold(threshold=0.5))
        assert sum(result.trace.tokens_decided.values()) == len(result.tokens) + result.stopped
    assert result.trace.tokens_decided["seed"] >= 1


def test_batch_rows_equal_single_runs(model: LanguageModel) -> None:
    prompts = [prompt(n, n) for n in (50, 3, 24, 33)]
    for decoding in (Static(tokens_per_step=2), Threshold(threshold=0.3)):
        engine = Engine(model, Dense(), decoding)
        together = engine.generate(engine.prefill(prompts, [20, 7, 13, 20]))
        for tokens, new, result in zip(prompts, [20, 7, 13, 20], together):
            alone = generate(model, tokens, new, decoding)
            assert alone.tokens == result.tokens
            assert alone.trace.forwards == result.trace.forwards


@pytest.mark.parametrize(
    ("tokens", "new", "words"),
    [([], 4, "prompt is empty"), ([3], 0, "max_new_tokens=0"), ([3] * 500, 20, "do not fit the model's 512 positions")],
)
def test_prompts_that_cannot_be_served(model: LanguageModel, tokens: list[int], new: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        generate(model, tokens, new, Static())
