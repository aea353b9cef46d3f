"""A causal prefill in two parts: the common part is continued from, copied and never changed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from baselines.dense import Dense
from baselines.snapkv import SnapKV
from mage.budget import Budget
from mage.errors import UserError
from mage.generation.decoding import Sequential, Static
from mage.generation.engine import Engine
from mage.generation.prefill import Prefix
from mage.models.checkpoint import LanguageModel
from mage.models.diffusion import DiffusionSpec
from mage.view import KEPT_QUERIES
from tests.conftest import prompt
from tests.mage import naive

BLOCK = 8


def causal(block_size: int = BLOCK) -> DiffusionSpec:
    return DiffusionSpec(block_size, 1, (2,), "same", "causal", True)


@pytest.fixture(scope="module")
def causal_model(model: LanguageModel) -> LanguageModel:
    return replace(model, body=naive.tiny_body("llama"), spec=causal())


def tensors(prefix: Prefix) -> tuple[torch.Tensor, ...]:
    length = prefix.lengths[0]
    return (
        prefix.cache.keys[:, :, :, :length],
        prefix.cache.values[:, :, :, :length],
        prefix.windows,
        prefix.last_logits,
    )


@pytest.mark.parametrize(
    ("length", "common"),
    [(300, 290), (300, 100), (300, 300), (40, 30), (300, 1), (KEPT_QUERIES + 5, KEPT_QUERIES), (300, 172)],
)
@pytest.mark.parametrize("chunk", [None, 64])
def test_two_parts_give_what_one_pass_gives(
    causal_model: LanguageModel, length: int, common: int, chunk: int | None
) -> None:
    engine = Engine(causal_model, Dense(), Static(), prefill_chunk=chunk)
    tokens = prompt(length, seed=length)
    whole = engine.prefill([tokens], [20])
    parts = engine.prefill([tokens], [20], common=engine.prefill_common(tokens[:common]))
    assert (whole.lengths, whole.shared) == ([length], 0) and (parts.lengths, parts.shared) == ([length], common)
    for one, two in zip(tensors(whole), tensors(parts), strict=True):
        torch.testing.assert_close(two, one, atol=2e-4, rtol=1e-4)
    assert whole.cache.keys.shape == parts.cache.keys.shape


def test_a_question_has_the_same_bits_whoever_asked_before(causal_model: LanguageModel) -> None:
    engine, context = Engine(causal_model, Dense(), Static()), prompt(150, 1)
    first, second = (context + prompt(n, seed=n) for n in (9, 23))
    shared = engine.prefill_common(context)
    kept = [tensor.clone() for tensor in tensors(shared)]
    for tokens in (first, second):  # decoding writes behind a copy
        engine.generate(engine.prefill([tokens], [30], common=shared))
    assert all(torch.equal(now, then) for now, then in zip(tensors(shared), kept, strict=True))
    late = engine.prefill([second], [30], common=shared)
    alone = engine.prefill([second], [30], common=engine.prefill_common(context))
    assert all(torch.equal(a, b) for a, b in zip(tensors(late), tensors(alone), strict=True))
    assert late.cache.keys.data_ptr() != shared.cache.keys.data_ptr()


def test_one_common_part_serves_every_block_size(causal_model: LanguageModel) -> None:
    tokens = prompt(60, 4)
    shared = Engine(causal_model, Dense(), Static()).prefill_common(tokens)
    assert shared.cache.keys.shape[3] == 60, "no room is kept behind what is shared"
    for size in (1, BLOCK, 32):
        engine = Engine(replace(causal_model, spec=causal(size)), Dense(), Sequential(tokens_per_step=1))
        continued = engine.generate(engine.prefill([tokens], [40], common=shared))[0]
        assert continued.tokens == engine.generate(engine.prefill([tokens], [40]))[0].tokens


def test_a_selection_from_the_last_queries_is_the_same(causal_model: LanguageModel) -> None:
    engine = Engine(causal_model, SnapKV(dense_layers=0), Static())
    tokens = prompt(200, 5)
    both = [
        engine.generate(engine.prefill([tokens], [16], common=common), Budget(40))[0]
        for common in (None, engine.prefill_common(tokens[:190]))
    ]
    assert both[0].tokens == both[1].tokens


def test_what_cannot_be_continued_is_refused(causal_model: LanguageModel, model: LanguageModel) -> None:
    engine, tokens = Engine(causal_model, Dense(), Static()), prompt(20, 1)
    common = engine.prefill_common(tokens[:10])
    for prompts in ([tokens, tokens], [prompt(20, 2)], [tokens[:9]]):
        with pytest.raises(ValueError, match="one prompt that begins with it"):
            engine.prefill(prompts, [8] * len(prompts), common=common)
    with pytest.raises(ValueError, match="causal"):
        Engine(model, Dense(), Static()).prefill_common(tokens)
    with pytest.raises(UserError, match="513 tokens do not fit the model's 512 positions"):
        engine.prefill_common(prompt(513))
    with pytest.raises(UserError, match="empty"):
        engine.prefill_common([])
