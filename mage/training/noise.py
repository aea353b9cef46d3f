"""What a noised answer block looks like: the states that decoding meets, in shares."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Noised:
    """`tokens` like the clean ones with [MASK] where `masked`; `weights` of the loss, 0 where not masked.

    `distance`: of a masked position to the last known token before it; 1 is the next one, 0 is not masked.
    """

    tokens: Tensor
    masked: Tensor
    weights: Tensor
    distance: Tensor


@dataclass(frozen=True)
class AnswerNoise:
    """Masks answers `[..., block_size]`; never the prompt's part of a block.

    all_masked: share of the blocks of which nothing is known, as in the first denoising step.
    from_left: share of which the first tokens are known, as after confident steps; the rest has t ~ U(0, 1].
    values_only: share of the blocks that hold values and are no chain, of which all but values may be known.
    padding_weight: of the loss behind the answer's end. far_weights: in chained answers, where each token follows from
    the one before, of tokens whose distance to the last known one is above 2 and above 4.
    """

    mask_id: int
    all_masked: float = 0.3
    from_left: float = 0.4
    values_only: float = 0.0
    padding_weight: float = 0.1
    far_weights: tuple[float, float] = (0.4, 0.1)

    def __call__(
        self,
        tokens: Tensor,
        starts: Tensor,
        ends: Tensor,
        values: Tensor,
        chained: Tensor,
        generator: torch.Generator,
    ) -> Noised:
        """tokens, values `[..., block_size]`; starts and ends of the answers, chained: `[...]`."""
        size = tokens.shape[-1]
        place = torch.arange(size)
        answer = place >= starts[..., None]
        meaning = answer & (place < ends[..., None])

        def draw(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator)

        state = draw(*starts.shape, 1)
        level = draw(*starts.shape, 1).clamp(min=1 / size)
        known = (draw(*starts.shape) * (ends - starts)).long()
        masked = draw(*tokens.shape) < level
        masked = torch.where(state < self.all_masked + self.from_left, place >= (starts + known)[..., None], masked)
        masked = masked | (state < self.all_masked)
        with_values = (values & meaning).any(-1, keepdim=True) & ~chained[..., None]
        only_values = with_values & (draw(*starts.shape, 1) < self.values_only)
        masked = torch.where(only_values, (masked | (draw(*tokens.shape) < 0.5)) & values, masked) & answer
        # At least one token to predict: the first of the answer.
        masked = masked | (~masked.any(-1, keepdim=True) & (place == starts[..., None]))

        distance = _distance(masked)
        weights = torch.where(meaning, 1.0, self.padding_weight)
        for limit, weight in zip((2, 4), self.far_weights, strict=True):
            weights = torch.where(meaning & chained[..., None] & (distance > limit), weight, weights)
        weights = weights * masked
        # A branch counts with the square root of its tokens, lest long codes drown one-word answers.
        weights = weights / weights.sum(-1, keepdim=True).sqrt()
        return Noised(torch.where(masked, self.mask_id, tokens), masked, weights, distance)


def complementary(
    tokens: Tensor, editable: Tensor, mask_id: int, generator: torch.Generator
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Noise whole sequences `[batch, length]` twice, so that every editable token is masked in exactly one view.

    `editable` `[batch, length]`: the tokens that training may mask, not those of the prompt. Each view is (tokens,
    masked). One noise level t ~ U(0, 1) a sequence; the other view has 1 - t. Source: Fast-dLLM v2.
    """
    level = torch.rand(tokens.shape[0], 1, generator=generator)
    first = torch.rand(tokens.shape, generator=generator) < level
    views = [(torch.where(view, mask_id, tokens), view) for view in (first & editable, ~first & editable)]
    return views[0], views[1]


def _distance(masked: Tensor) -> Tensor:
    """Positions since the last unmasked one; 0 where not masked."""
    place = torch.arange(1, masked.shape[-1] + 1)
    last_known = torch.where(masked, 0, place).cummax(-1).values
    return torch.where(masked, place - last_known, 0)
