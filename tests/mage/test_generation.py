"""Prefill, denoising and commit, against forwards over the whole sequence."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from baselines.dense import Dense
from mage.attention.block import BlockAttention
from mage.attention.prefill import block_causal_attention
from mage.errors import UserError
from mage.generation.decoding import Decoding, Sequential, Static, Threshold
from mage.generation.engine import Engine
from mage.generation.session import Generation
from mage.models.checkpoint import LanguageModel
from mage.view import Forward, Request
from tests.conftest import prompt

BLOCK = 8


def full_forward(model: LanguageModel, tokens: list[int]) -> Tensor:
    """Logits of one block-causal forward over everything, without a cache."""

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return block_causal_attention(q, k, v, 0, model.spec.block_size)

    with torch.no_grad():
        ids = torch.tensor([tokens])
        return model.body.logits(model.body.hidden(ids, torch.arange(len(tokens))[None], attend))[0]


def generate(model: LanguageModel, tokens: list[int], new: int, decoding: Decoding) -> Generation:
    engine = Engine(model, Dense(), decoding)
    return engine.generate(engine.prefill([tokens], [new]))[0]


def reference_generate(model: LanguageModel, tokens: list[int], new: int, per_step: int) -> list[int]:
    """The loop of the fact sheet with a full forward for every step: no cache, no seam, static decoding."""
    spec, sequence, limit = model.spec, list(tokens), len(tokens) + new
    while True:
        start = len(sequence) // BLOCK * BLOCK
        if spec.alignment == "shifted" and len(sequence) % BLOCK == 0:
            logits = full_forward(model, sequence)[-1]
            logits[spec.mask_id] = float("-inf")
            sequence.append(int(logits.argmax()))
        block = sequence[start:] + [spec.mask_id] * (BLOCK - len(sequence) + start)
        first_generated = max(len(tokens) - start, 0)
        while True:
            stops = [i for i in range(first_generated, BLOCK) if block[i] in spec.stop_ids]
            end = min([limit - start, BLOCK, *stops])
            masked = [i for i in range(end) if block[i] == spec.mask_id]
            if not masked:
                break
            logits = full_forward(model, sequence[:start] + block)[start:]
            if spec.alignment == "shifted":
                logits = torch.cat((logits[:1], logits[:-1]))
            logits[:, spec.mask_id] = float("-inf")
            confidence, best = logits.softmax(-1).max(-1)
            for i in sorted(masked, key=lambda i: -float(confidence[i]))[:per_step]:
                block[i] = int(best[i])
        sequence = sequence[:start] + block[: limit - start]
        answer = sequence[len(tokens) :]
        for i, token in enumerate(answer):
            if token in spec.stop_ids:
                return answer[:i]
        if len(sequence) >= limit:
            return answer


@pytest.mark.parametrize("length", [1, 7, 8, 9, 15, 16, 17, 40])
@pytest.mark.parametrize("alignment", ["same", "shifted"])
def test_cached_generation_equals_full_forwards(
    model: LanguageModel, shifted_model: LanguageModel, length: int, alignment: str
) -> None:
    chosen = model if alignment == "same" else shifted_model
    tokens = prompt(length, seed=length)
    for per_step in (1, 3):
        expected = reference_generate(chosen, tokens, 21, per_step)
        assert generate(chosen, tokens, 21, Static(tokens_per_step=per_step)).tokens == expected


def test_cached_logits_equal_the_rows_of_a_full_forward(model: LanguageModel) -> None:
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
    torch.testing.assert_close(cached, full_forward(model, tokens)[3 * BLOCK :], atol=1e-5, rtol=1e-5)


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
    import copy

    body = copy.deepcopy(model.body)
    with torch.no_grad():
        body.model.norm.weight.zero_()
        body.model.norm.weight[0] = 1.0
        body.lm_head.weight.zero_()
        body.lm_head.weight[favourite, 0] = 5.0
        body.model.embed_tokens.weight[:, 0] = 40.0  # dominates the residual stream
    return LanguageModel(body, model.spec, model.tokenizer)


@pytest.mark.parametrize(
    "decoding", [Threshold(), Static(tokens_per_step=3), Sequential()], ids=lambda d: type(d).__name__
)
def test_the_mask_is_never_emitted(model: LanguageModel, decoding: Decoding) -> None:
    result = generate(rigged(model, model.spec.mask_id), prompt(12), 20, decoding)
    assert model.spec.mask_id not in result.tokens
    assert len(result.tokens) == 20 or result.stopped


def test_a_stop_token_ends_the_answer(model: LanguageModel) -> None:
    result = generate(rigged(model, 2), prompt(12), 40, Static())
    assert result.stopped and result.trace.forwards["commit"] == 0
    assert result.tokens == [] or result.tokens[-1] != 2


@pytest.mark.parametrize("new", [1, 3, 4, 5, 12, 13])
def test_no_more_than_max_new_tokens(model: LanguageModel, new: int) -> None:
    result = generate(rigged(model, 7), prompt(12), new, Static())
    assert len(result.tokens) == new and not result.stopped
    assert result.trace.forwards == {"exact": new, "sparse": 0, "commit": len(result.trace.blocks) - 1}


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
