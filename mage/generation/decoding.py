"""Decoding policies: what a denoising step writes into a block.

The policies here fill masked slots and never change what is filled (see `editing` and `indel` for those that do). Every
one fills at least one slot wherever a row has a candidate. Slots behind a stop token are not filled: they would not
be part of the answer. (The loops of Fast-dLLM v2 and SDAR do fill them while slots before the stop token are open.)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mage.errors import UserError
from mage.generation.canvas import Canvas, forbid
from mage.models.diffusion import DiffusionSpec


class Writing(ABC):
    """One block of a batch under a policy, from its first denoising step to its last."""

    @abstractmethod
    def active(self) -> Tensor:
        """Return the rows that need another forward, bool `[batch]`. Costs no synchronisation with the device."""

    @abstractmethod
    def step(self, logits: Tensor) -> Tensor:
        """Write what a forward says to the canvas and return the slots it decided, bool `[batch, block]`.

        `logits` `[batch, block, vocab]`, which may be overwritten, belong to the token of their own slot.
        """


@dataclass(frozen=True, kw_only=True)
class Decoding(ABC):
    """A decoding policy.

    `sub_block`: work only on the masked slots of the leftmost sub-block of this many slots that has any (None: the
    whole block). Fast-dLLM v2 uses 8 in blocks of 32 (arXiv 2509.26328).
    """

    settles: ClassVar[bool] = False  # whether the last forward of a block may have seen exactly its final tokens
    sub_block: int | None = None

    def __post_init__(self) -> None:
        if self.sub_block is not None and self.sub_block < 1:
            raise UserError(f"decoding.sub_block={self.sub_block} is out of range. Allowed: an integer >= 1, or null.")

    def check(self, spec: DiffusionSpec) -> None:  # noqa: B027 - most policies work with every model
        """Raise `UserError` when a model cannot be decoded by this policy."""

    @abstractmethod
    def open(self, canvas: Canvas) -> Writing:
        """Begin to write a block."""


@dataclass(frozen=True)
class Proposal:
    """What a forward proposes for each slot: the best token, its probability `[batch, block]`, and the probabilities
    `[batch, block, vocab]` it stands out from. No control token among them."""

    tokens: Tensor
    confidence: Tensor
    probabilities: Tensor

    @classmethod
    def of(cls, logits: Tensor, spec: DiffusionSpec) -> Proposal:
        """Read off the proposal of `logits` `[batch, block, vocab]`, overwriting them."""
        probabilities = forbid(logits, spec.control_ids).softmax(-1)
        confidence, tokens = probabilities.max(-1)
        return cls(tokens, confidence, probabilities)


class Filling(Decoding):
    """A policy that fills masked slots and is done when none is left."""

    @abstractmethod
    def positions(self, proposal: Proposal, candidates: Tensor, step: int) -> Tensor:
        """Return the slots to fill in denoising step `step` (from 1), bool `[batch, block]`, a subset of
        `candidates` `[batch, block]`."""

    def open(self, canvas: Canvas) -> Writing:
        return FilledBlock(self, canvas)


class FilledBlock(Writing):
    """A block under a policy that fills."""

    def __init__(self, policy: Filling, canvas: Canvas) -> None:
        self._policy, self._canvas = policy, canvas
        self._candidates = canvas.candidates()
        self._step = 0

    def active(self) -> Tensor:
        return self._candidates.any(-1)

    def step(self, logits: Tensor) -> Tensor:
        canvas, self._step = self._canvas, self._step + 1
        proposal = Proposal.of(logits, canvas.spec)
        filled = self._policy.positions(proposal, leftmost(self._candidates, self._policy.sub_block), self._step)
        canvas.tokens = torch.where(filled, proposal.tokens, canvas.tokens)
        self._candidates = canvas.candidates()
        return filled


@dataclass(frozen=True, kw_only=True)
class Threshold(Filling):
    """Fill every candidate whose confidence exceeds `threshold`, and always the `at_least` most confident ones.

    (Fast-dLLM, arXiv 2505.22618, section 3; the default of Fast-dLLM v2, SDAR, where it is called dynamic, and
    LLaDA2.0.)
    """

    threshold: float = 0.9
    at_least: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("threshold", self.threshold)
        check_count("at_least", self.at_least)

    def positions(self, proposal: Proposal, candidates: Tensor, step: int) -> Tensor:
        return confident(proposal.confidence, candidates, self.threshold, self.at_least)


@dataclass(frozen=True, kw_only=True)
class Static(Filling):
    """Fill the `tokens_per_step` most confident candidates; or as many as fill a block in `steps` steps, the remainder
    going to the first of them (SDAR, generate.py)."""

    tokens_per_step: int = 1
    steps: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("tokens_per_step", self.tokens_per_step)
        if self.steps is None:
            return
        check_count("steps", self.steps)
        if self.tokens_per_step != 1:
            raise UserError(f"decoding.steps={self.steps} and tokens_per_step={self.tokens_per_step}: set one of them.")

    def positions(self, proposal: Proposal, candidates: Tensor, step: int) -> Tensor:
        count = self.tokens_per_step
        if self.steps is not None:
            share, remainder = divmod(candidates.shape[-1], self.steps)
            count = max(1, share + (step <= remainder))
        return best(proposal.confidence, candidates, count)


@dataclass(frozen=True, kw_only=True)
class Sequential(Filling):
    """Fill the `tokens_per_step` leftmost candidates."""

    tokens_per_step: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("tokens_per_step", self.tokens_per_step)

    def positions(self, proposal: Proposal, candidates: Tensor, step: int) -> Tensor:
        return candidates & (candidates.cumsum(-1) <= self.tokens_per_step)


@dataclass(frozen=True, kw_only=True)
class Entropy(Filling):
    """Fill the candidates of lowest entropy, as many as keep the sum of the entropies before the last within `bound`,
    in nats. The most certain one is always filled.

    (Entropy-bounded unmasking, arXiv 2505.24857. The entropy is that of the whole distribution; generate.py of SDAR
    takes it of the chosen probability alone.)
    """

    bound: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.bound >= 0.0:
            raise UserError(f"decoding.bound={self.bound} is out of range. Allowed: a number >= 0.")

    def positions(self, proposal: Proposal, candidates: Tensor, step: int) -> Tensor:
        entropy = torch.special.entr(proposal.probabilities).sum(-1)
        # Zero for the others keeps the sums finite; they sort behind the candidates and are dropped by &.
        order = entropy.masked_fill(~candidates, float("inf")).argsort(dim=-1)
        ordered = entropy.masked_fill(~candidates, 0.0).gather(-1, order)
        within = ordered.cumsum(-1) - ordered <= self.bound
        within[..., 0] = True  # rounding may leave a trace of the first one's own entropy
        return torch.zeros_like(candidates).scatter_(-1, order, within) & candidates


def best(confidence: Tensor, candidates: Tensor, count: int) -> Tensor:
    """Return the `count` most confident candidates of each row, fewer where a row has fewer."""
    # Confidence is at least 0, so -1 puts every other position behind the candidates; & drops what is still taken.
    ranked = confidence.masked_fill(~candidates, -1.0).topk(min(count, candidates.shape[-1]), dim=-1).indices
    return torch.zeros_like(candidates).scatter_(-1, ranked, True) & candidates


def confident(confidence: Tensor, candidates: Tensor, threshold: float, at_least: int) -> Tensor:
    """Return the candidates above `threshold`, and always the `at_least` most confident ones."""
    return (candidates & (confidence > threshold)) | best(confidence, candidates, at_least)


def leftmost(candidates: Tensor, size: int | None) -> Tensor:
    """Return the candidates `[batch, block]` of the leftmost sub-block of `size` slots that has any (None: all)."""
    if size is None:
        return candidates
    block = candidates.shape[-1]
    number = torch.arange(block, device=candidates.device) // size
    return candidates & (number == torch.where(candidates, number, block).amin(-1, keepdim=True))


def check_count(name: str, value: int) -> None:
    """Raise `UserError` unless the option is at least 1."""
    if value < 1:
        raise UserError(f"decoding.{name}={value} is out of range. Allowed: an integer >= 1.")


def check_share(name: str, value: float) -> None:
    """Raise `UserError` unless the option is a probability."""
    if not 0.0 <= value <= 1.0:
        raise UserError(f"decoding.{name}={value} is out of range. Allowed: 0 to 1.")
