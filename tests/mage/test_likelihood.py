"""The likelihood of an answer equals that of one plain forward over prompt and answer, and disturbs nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from baselines.dense import Dense
from mage.errors import UserError
from mage.generation.decoding import Static
from mage.generation.engine import Engine
from mage.generation.likelihood import answer_nll
from mage.models.checkpoint import LanguageModel
from mage.models.diffusion import DiffusionSpec
from tests.conftest import prompt
from tests.mage import naive

SPEC = DiffusionSpec(8, 1, (2,), prefix_attention="causal", anchored=True)


@pytest.fixture(scope="module")
def causal(model: LanguageModel) -> LanguageModel:
    return replace(model, body=naive.tiny_body("llama"), spec=SPEC)


def whole_forward(model: LanguageModel, tokens: list[int], answer: list[int]) -> float:
    """Sum over the answer's tokens, from a forward without cache: each token alone is a block of the naive forward."""
    plain = replace(model, spec=replace(model.spec, block_size=1))
    logits = naive.forward(plain, tokens + answer, len(tokens) + len(answer))
    told = logits.log_softmax(-1)[len(tokens) - 1 : -1]
    return -float(told.gather(1, torch.tensor(answer)[:, None]).sum())


@pytest.mark.parametrize("lengths", [[13], [13, 4, 21]])
def test_it_is_that_of_a_plain_forward_over_prompt_and_answer(causal: LanguageModel, lengths: list[int]) -> None:
    prompts = [prompt(n, seed=n) for n in lengths]
    answers = [[*prompt(n, seed=100 + n), 2] for n in (19, 3, 1)[: len(lengths)]]
    prefix = Engine(causal, Dense(), Static()).prefill(prompts, [24] * len(prompts))
    expected = [whole_forward(causal, p, a) for p, a in zip(prompts, answers)]
    assert answer_nll(causal, prefix, answers) == pytest.approx(expected, rel=1e-5)


def test_one_token_is_told_by_the_prefix_alone(causal: LanguageModel) -> None:
    tokens = prompt(9, seed=1)
    prefix = Engine(causal, Dense(), Static()).prefill([tokens], [8])
    assert answer_nll(causal, prefix, [[2]]) == pytest.approx([whole_forward(causal, tokens, [2])], rel=1e-5)


def test_the_adapted_body_is_not_asked(causal: LanguageModel) -> None:
    adapted = replace(causal, adapted=naive.tiny_body("llama", seed=5))
    prefix = Engine(causal, Dense(), Static()).prefill([prompt(9)], [8])
    answer = [prompt(5, seed=2)]
    assert answer_nll(adapted, prefix, answer) == answer_nll(causal, prefix, answer)


def test_cache_and_later_answers_are_as_without_it(causal: LanguageModel) -> None:
    engine = Engine(causal, Dense(), Static(tokens_per_step=2))
    prefix = engine.prefill([prompt(13), prompt(7)], [20, 20])
    first = [g.tokens for g in engine.generate(prefix)]
    keys, lengths = prefix.cache.keys.clone(), list(prefix.cache.lengths)
    answer_nll(causal, prefix, first)
    assert torch.equal(prefix.cache.keys, keys) and prefix.cache.lengths == lengths
    assert [g.tokens for g in engine.generate(prefix)] == first


def test_it_is_the_same_after_a_generation(causal: LanguageModel) -> None:
    """Which never emits [MASK], and so gives it no probability in its own choices."""
    engine = Engine(causal, Dense(), Static(tokens_per_step=2))
    prefix = engine.prefill([prompt(13)], [8])
    before = answer_nll(causal, prefix, [prompt(5, seed=4)])
    engine.generate(prefix)
    assert answer_nll(causal, prefix, [prompt(5, seed=4)]) == before


def test_a_greedy_autoregressive_answer_is_as_likely_as_its_best_tokens(causal: LanguageModel) -> None:
    plain = replace(causal, spec=replace(SPEC, block_size=1))
    engine = Engine(plain, Dense(), Static())
    prefix = engine.prefill([prompt(13)], [6])
    (written,) = engine.generate(prefix)
    (nll,) = answer_nll(plain, prefix, [written.tokens])
    other = [[(token + 1) % 61 for token in written.tokens]]
    assert nll < answer_nll(plain, prefix, other)[0]


def test_a_model_without_causal_prefix_is_refused(model: LanguageModel) -> None:
    prefix = Engine(model, Dense(), Static()).prefill([prompt(16)], [8])
    with pytest.raises(
        UserError, match=r"^runner\.likelihood=true: .* Allowed: false, or a model with [^\n]*causal\.$"
    ):
        answer_nll(model, prefix, [[3]])
