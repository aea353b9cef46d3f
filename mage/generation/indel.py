"""Decoding with insertions and deletions inside the open block (LLaDA2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from mage.errors import UserError
from mage.generation.canvas import Canvas
from mage.generation.decoding import Decoding, Writing, check_share
from mage.generation.indel_row import Guess, IndelRow
from mage.models.diffusion import DiffusionSpec


@dataclass(frozen=True, kw_only=True)
class Indel(Decoding):
    """Each forward fills masked slots and edits filled ones, also by control tokens: DELETE removes its slot and what
    follows moves left, SPLIT puts a [MASK] before the token of its slot. The block keeps its size: it is filled up with
    [MASK], or cut. The prompt's tail stays where it is. (LLaDA2.2; the rules are those of the joint-threshold decoder
    with insertions and deletions of sglang 0.5.23, see `IndelRow`.)

    `threshold`: confidence that fills a slot. `editing_threshold`: confidence that overwrites one. `max_post_steps`:
    forwards allowed without an original [MASK], over the whole block; the last of them cleans up. The whole block is
    written, also behind a stop token or the answer's limit: a deletion may move those slots to the left.
    """

    settles: ClassVar[bool] = True
    threshold: float = 0.5
    editing_threshold: float = 0.0
    max_post_steps: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("threshold", self.threshold)
        check_share("editing_threshold", self.editing_threshold)
        if self.max_post_steps < 0:
            raise UserError(f"decoding.max_post_steps={self.max_post_steps} is out of range. Allowed: an integer >= 0.")
        if self.sub_block is not None:
            raise UserError(
                f"decoding.sub_block={self.sub_block}: indel moves tokens across sub-blocks. Allowed: null."
            )

    def check(self, spec: DiffusionSpec) -> None:
        for name, value in (("delete_id", spec.delete_id), ("split_id", spec.split_id)):
            if value is None:
                raise UserError(f"decoding=indel needs model.{name}, which this model does not have.")

    def open(self, canvas: Canvas) -> Writing:
        return IndelBlock(self, canvas)


class IndelBlock(Writing):
    """A block under `Indel`. Rows differ in what moves where, so each is written on the host."""

    def __init__(self, policy: Indel, canvas: Canvas) -> None:
        self._canvas = canvas
        spec = canvas.spec
        assert spec.delete_id is not None and spec.split_id is not None  # Indel.check
        live = canvas.needed.any(-1).tolist()
        self._rows = [
            IndelRow(
                tokens,
                frozen,
                mask=spec.mask_id,
                delete=spec.delete_id,
                split=spec.split_id,
                threshold=policy.threshold,
                editing_threshold=policy.editing_threshold,
                max_post_steps=policy.max_post_steps,
                finished=not alive,
            )
            for tokens, frozen, alive in zip(canvas.tokens.tolist(), canvas.frozen.sum(-1).tolist(), live)
        ]

    def active(self) -> Tensor:
        return torch.tensor([not row.finished for row in self._rows])

    def step(self, logits: Tensor) -> Tensor:
        canvas, spec = self._canvas, self._canvas.spec
        probabilities = logits.softmax(-1)
        guesses = []
        for forbidden in ((), (spec.mask_id,), spec.control_ids):
            for i in forbidden:
                probabilities[..., i] = -1.0
            guesses.append(probabilities.max(-1))
        tokens = torch.stack([guess.indices for guess in guesses], -1).tolist()
        confidence = torch.stack([guess.values for guess in guesses], -1).tolist()

        origins = []  # by row and slot: where the slot's token stood before, -1 where this forward wrote it
        for row, state in enumerate(self._rows):
            if state.finished:
                origins.append(list(range(len(state.tokens))))
                continue
            slots = [Guess(t[0], t[1], t[2], p[0], p[1]) for t, p in zip(tokens[row], confidence[row])]
            origins.append(state.step(slots, partial(_ranked, logits[row])))
        device = canvas.tokens.device
        origin = torch.tensor(origins, device=device)
        canvas.tokens = torch.tensor([state.tokens for state in self._rows], device=device)
        canvas.decided = canvas.decided.gather(-1, origin.clamp(min=0))
        return origin < 0


def _ranked(logits: Tensor, slot: int, count: int) -> list[int]:
    """Return the `count` best tokens (all, where there are fewer) of a slot of `logits` `[block, vocab]`."""
    return logits[slot].topk(min(count, logits.shape[-1])).indices.tolist()
