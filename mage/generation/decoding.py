"""Decoding policies: which masked positions of a block become tokens after a denoising step.

Every policy sees the confidence of the best token at each position (its probability, [MASK] excluded) and returns the
positions to fill. All fill at least one position wherever a row has a candidate.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from mage.errors import UserError


class Decoding(ABC):
    """A decoding policy."""

    @abstractmethod
    def positions(self, confidence: Tensor, candidates: Tensor) -> Tensor:
        """Return the positions to fill, bool `[batch, block]`, a subset of `candidates` `[batch, block]`.

        `confidence` `[batch, block]` is in [0, 1].
        """


@dataclass(frozen=True, kw_only=True)
class Threshold(Decoding):
    """Fill every candidate whose confidence exceeds `threshold`, and always the most confident one.

    (Fast-dLLM, arXiv 2505.22618, section 3; the default of Fast-dLLM v2, SDAR and LLaDA2.)
    """

    threshold: float = 0.9

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise UserError(f"decoding.threshold={self.threshold} is out of range. Allowed: 0 to 1.")

    def positions(self, confidence: Tensor, candidates: Tensor) -> Tensor:
        return (candidates & (confidence > self.threshold)) | _best(confidence, candidates, 1)


@dataclass(frozen=True, kw_only=True)
class Static(Decoding):
    """Fill the `tokens_per_step` most confident candidates."""

    tokens_per_step: int = 1

    def __post_init__(self) -> None:
        _check_tokens_per_step(self.tokens_per_step)

    def positions(self, confidence: Tensor, candidates: Tensor) -> Tensor:
        return _best(confidence, candidates, self.tokens_per_step)


@dataclass(frozen=True, kw_only=True)
class Sequential(Decoding):
    """Fill the `tokens_per_step` leftmost candidates."""

    tokens_per_step: int = 1

    def __post_init__(self) -> None:
        _check_tokens_per_step(self.tokens_per_step)

    def positions(self, confidence: Tensor, candidates: Tensor) -> Tensor:
        return candidates & (candidates.cumsum(-1) <= self.tokens_per_step)


def _best(confidence: Tensor, candidates: Tensor, count: int) -> Tensor:
    """Return the `count` most confident candidates of each row, fewer where a row has fewer."""
    # Confidence is at least 0, so -1 puts every other position behind the candidates; & drops what is still taken.
    ranked = confidence.masked_fill(~candidates, -1.0).topk(min(count, candidates.shape[-1]), dim=-1).indices
    return torch.zeros_like(candidates).scatter_(-1, ranked, True) & candidates


def _check_tokens_per_step(value: int) -> None:
    if value < 1:
        raise UserError(f"decoding.tokens_per_step={value} is out of range. Allowed: an integer >= 1.")
