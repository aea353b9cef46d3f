"""What the noise may touch and what it must reach."""

from __future__ import annotations

import torch

from mage.training.noise import AnswerNoise, complementary

MASK = 1


def _draw(noise: AnswerNoise, count: int = 400):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(2, 90, (count, 4, 16), generator=generator)
    starts = torch.randint(0, 10, (count, 4), generator=generator)
    ends = (starts + 1 + torch.randint(0, 6, (count, 4), generator=generator)).clamp(max=16)
    values = torch.rand(tokens.shape, generator=generator) < 0.4
    chained = torch.rand(starts.shape, generator=generator) < 0.5
    return tokens, starts, ends, values, chained, noise(tokens, starts, ends, values, chained, generator)


def test_noise_never_touches_the_prompt_and_masks_something() -> None:
    tokens, starts, _, _, _, noised = _draw(AnswerNoise(mask_id=MASK, values_only=0.4))
    prompt = torch.arange(16) < starts[..., None]
    assert not noised.masked[prompt].any()
    assert torch.equal(noised.tokens[~noised.masked], tokens[~noised.masked])
    assert (noised.tokens[noised.masked] == MASK).all()
    assert noised.masked.any(-1).all()


def test_weights_are_those_of_masked_tokens_alone() -> None:
    *_, noised = _draw(AnswerNoise(mask_id=MASK))
    assert torch.equal(noised.weights > 0, noised.masked)


def test_shares_of_the_states() -> None:
    _, starts, _, _, _, noised = _draw(AnswerNoise(mask_id=MASK, all_masked=1.0, from_left=0.0))
    assert torch.equal(noised.masked, torch.arange(16) >= starts[..., None])
    _, starts, ends, _, _, noised = _draw(AnswerNoise(mask_id=MASK, all_masked=0.0, from_left=1.0))
    # One border: everything behind the first masked token is masked, and it lies in the answer's meaning part.
    first = noised.masked.int().argmax(-1)
    assert torch.equal(noised.masked, torch.arange(16) >= first[..., None])
    assert ((first >= starts) & (first < ends)).all()
    assert (first > starts).any()


def test_far_tokens_of_chains_weigh_less() -> None:
    _, starts, ends, _, chained, noised = _draw(AnswerNoise(mask_id=MASK, all_masked=1.0, from_left=0.0))
    place = torch.arange(16)
    far = (place >= starts[..., None] + 4) & (place < ends[..., None])
    near = place == starts[..., None]
    ratio = noised.weights / (noised.weights * near).sum(-1, keepdim=True)
    torch.testing.assert_close(
        ratio[far & chained[..., None]], torch.full((int((far & chained[..., None]).sum()),), 0.1)
    )
    plain = far & ~chained[..., None]
    torch.testing.assert_close(ratio[plain], torch.ones(int(plain.sum())))


def test_distance_counts_from_the_last_known_token() -> None:
    tokens = torch.tensor([[9, 8, 7, 6, 5, 4, 3, 2]])
    noise = AnswerNoise(mask_id=MASK, all_masked=1.0, from_left=0.0)
    flat = torch.zeros(1, 8, dtype=torch.bool)
    noised = noise(tokens, torch.tensor([3]), torch.tensor([8]), flat, flat[:, 0], torch.Generator())
    assert noised.distance.tolist() == [[0, 0, 0, 1, 2, 3, 4, 5]]


def test_complementary_views_mask_each_editable_token_once() -> None:
    tokens = torch.arange(2, 42).view(2, 20)
    editable = torch.arange(20).expand(2, -1) >= 6
    views = complementary(tokens, editable, MASK, torch.Generator().manual_seed(0))
    (first, first_mask), (second, second_mask) = views
    assert torch.equal(first_mask ^ second_mask, editable)
    assert torch.equal(torch.where(first_mask, second, first), tokens)
