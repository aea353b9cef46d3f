"""Editing decoding: filled slots may change as long as the block is open (LLaDA2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mage.errors import UserError
from mage.generation.canvas import Canvas
from mage.generation.decoding import Decoding, Proposal, Writing, check_count, check_share, confident, leftmost


@dataclass(frozen=True, kw_only=True)
class Edit(Decoding):
    """Each forward fills masked slots and overwrites filled ones it disagrees with (`generate` of LLaDA2.1).

    Filled: the masked slots whose confidence exceeds `threshold`, at least `num_to_transfer`. Overwritten: slots of the
    answer whose best token is another and whose confidence exceeds `editing_threshold`. A block ends with a forward on
    a block without [MASK] that changes nothing, or after `max_post_steps` forwards on such blocks. All needed slots are
    filled, those behind a stop token too: a later forward may overwrite the stop token.
    """

    settles: ClassVar[bool] = True
    threshold: float = 0.95
    editing_threshold: float = 0.9
    num_to_transfer: int = 1
    max_post_steps: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("threshold", self.threshold)
        check_share("editing_threshold", self.editing_threshold)
        check_count("num_to_transfer", self.num_to_transfer)
        if self.max_post_steps < 0:
            raise UserError(f"decoding.max_post_steps={self.max_post_steps} is out of range. Allowed: an integer >= 0.")

    def open(self, canvas: Canvas) -> Writing:
        return EditedBlock(self, canvas)


class EditedBlock(Writing):
    """A block under `Edit`: which rows are open, and how many forwards each had without a [MASK]."""

    def __init__(self, policy: Edit, canvas: Canvas) -> None:
        self._policy, self._canvas = policy, canvas
        self._open = (canvas.needed & ~canvas.frozen).any(-1)
        self._post_steps = torch.zeros_like(self._open, dtype=torch.long)

    def active(self) -> Tensor:
        spent = ~self._canvas.masked().any(-1) & (self._post_steps >= self._policy.max_post_steps)
        return self._open & ~spent

    def step(self, logits: Tensor) -> Tensor:
        policy, canvas = self._policy, self._canvas
        active, masked = self.active(), canvas.masked()
        proposal = Proposal.of(logits, canvas.spec)
        candidates = leftmost(masked, policy.sub_block)
        filled = confident(proposal.confidence, candidates, policy.threshold, policy.num_to_transfer)
        visible = canvas.needed & ~canvas.frozen & ~masked
        differs = (proposal.tokens != canvas.tokens) & (proposal.confidence > policy.editing_threshold)
        changed = (filled | (visible & differs)) & active[:, None]
        self._post_steps += active & ~masked.any(-1)
        self._open &= changed.any(-1)  # a row with a [MASK] always changes
        canvas.tokens = torch.where(changed, proposal.tokens, canvas.tokens)
        return changed
