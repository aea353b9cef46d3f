"""Sampling with a shared context against one sequence at a time without any cache."""

from __future__ import annotations

import pytest
import torch

from mage.attention.prefill import block_causal_attention
from mage.errors import UserError
from mage.models.transformer import Transformer
from mage.training.sampling import sample
from tests.mage.naive import tiny_body

CONTEXT = [5, 9, 12, 7, 30, 2, 18]
PROMPTS = [[3, 8], [11], [4, 4, 25, 31, 6], [19, 2, 2]]


def naive_logits(body: Transformer, tokens: list[int]) -> torch.Tensor:
    positions = torch.arange(len(tokens))[None]
    hidden = body.hidden(
        torch.tensor([tokens]), positions, lambda layer, q, k, v: block_causal_attention(q, k, v, 0, 1)
    )
    return body.logits(hidden)[0, -1]


@torch.inference_mode()
def naive(body: Transformer, prompt: list[int], max_new: int, stop_ids: set[int]) -> list[int]:
    answer: list[int] = []
    while len(answer) < max_new and not (answer and answer[-1] in stop_ids):
        answer.append(int(naive_logits(body, CONTEXT + prompt + answer).argmax()))
    return answer


def test_greedy_rows_are_what_each_would_be_alone() -> None:
    body = tiny_body("llama")
    wanted = [naive(body, prompt, 12, set()) for prompt in PROMPTS]
    assert len({tuple(answer) for answer in wanted}) > 1
    assert sample(body, CONTEXT, PROMPTS, 12, set()) == wanted


def test_a_stop_token_ends_its_row_alone() -> None:
    body = tiny_body("llama")
    free = [naive(body, prompt, 12, set()) for prompt in PROMPTS]
    stop = {free[0][3]}
    wanted = [naive(body, prompt, 12, stop) for prompt in PROMPTS]
    assert len({len(answer) for answer in wanted}) > 1
    assert sample(body, CONTEXT, PROMPTS, 12, stop) == wanted


def test_rows_of_temperature_0_stay_greedy_beside_others() -> None:
    body = tiny_body("llama")
    greedy = sample(body, CONTEXT, PROMPTS, 12, set())
    heat = [0.0, 5.0, 0.0, 5.0]
    seeded = [torch.Generator().manual_seed(seed) for seed in (1, 1, 2)]
    drawn = [sample(body, CONTEXT, PROMPTS, 12, set(), heat, generator=generator) for generator in seeded]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    assert [drawn[0][0], drawn[0][2]] == [greedy[0], greedy[2]]
    assert [drawn[0][1], drawn[0][3]] != [greedy[1], greedy[3]]


@torch.inference_mode()
def test_tokens_are_drawn_with_their_probabilities_out_of_the_nucleus() -> None:
    body = tiny_body("llama")
    probabilities = naive_logits(body, CONTEXT + PROMPTS[0]).softmax(-1)
    ordered, ids = probabilities.sort(descending=True)
    nucleus = {int(i) for i in ids[: int((ordered.cumsum(0) < 0.5).sum()) + 1]}
    drawn = sample(
        body, CONTEXT, [PROMPTS[0]] * 4000, 1, set(), 1.0, top_p=0.5, generator=torch.Generator().manual_seed(0)
    )
    counts = torch.tensor([token for (token,) in drawn]).bincount(minlength=len(probabilities))
    assert {int(i) for i in counts.nonzero()} == nucleus
    wanted = torch.zeros_like(probabilities)
    wanted[list(nucleus)] = probabilities[list(nucleus)] / probabilities[list(nucleus)].sum()
    assert torch.allclose(counts / 4000, wanted, atol=0.03)


@pytest.mark.parametrize(
    ("context", "prompts", "max_new", "message"),
    [([], [[1]], 4, "context"), ([1], [[]], 4, "prompts"), ([1], [[1]], 0, "max_new=0"), ([1], [[1]], 10**6, "fit")],
)
def test_what_cannot_be_sampled_is_refused(
    context: list[int], prompts: list[list[int]], max_new: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        sample(tiny_body("llama"), context, prompts, max_new, set())
