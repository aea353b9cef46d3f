"""A lesson laid out for one step: a clean context, the clean rows of its branches, and noised blocks of their answers.

Every branch continues the context by itself: its positions start behind the context again. A block stands anywhere in
its branch's answer and sees the context, the branch's clean rows before it, and itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mage.errors import UserError


class Branch(Protocol):
    """See tasks.lessons: clean `prompt` ids behind the context, the `answer` ids to learn, and whether these end."""

    @property
    def prompt(self) -> Sequence[int]: ...
    @property
    def answer(self) -> Sequence[int]: ...
    @property
    def kind(self) -> str: ...
    @property
    def finished(self) -> bool: ...


class Lesson(Protocol):
    """A clean context and the branches that continue it."""

    @property
    def context(self) -> Sequence[int]: ...
    @property
    def branches(self) -> Sequence[Branch]: ...


@dataclass(frozen=True)
class PackedLesson:
    """`context` `[length]`; `rows`, `positions`, `branches` `[rows]`: clean tokens of all branches in a row.

    Of each block: `starts`, the row of its first token; `targets` and `noised` `[blocks, block_size]`; which are
    `masked`; `weights` of the loss, 0 where there is nothing to predict; `real`: tokens of the answer, not its padding;
    `kinds`, an index.
    """

    context: Tensor
    rows: Tensor
    positions: Tensor
    branches: Tensor
    starts: Tensor
    targets: Tensor
    noised: Tensor
    masked: Tensor
    weights: Tensor
    real: Tensor
    kinds: Tensor

    @property
    def tokens(self) -> int:
        """Tokens that a step computes."""
        return self.context.numel() + self.rows.numel() + self.noised.numel()

    def to(self, device: torch.device) -> PackedLesson:
        """Return the lesson with its tensors on a device."""
        return replace(self, **{name: tensor.to(device) for name, tensor in vars(self).items()})


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Draws blocks and noise.

    blocks: noised blocks of a lesson, spread over its branches. from_start: share of the blocks that stand at the start
    of their answer; the others stand anywhere in it. all_masked: share of the blocks of which only the first token is
    known, as in the first denoising step; from_left: share of which the first tokens are known; the others have
    t ~ U(0, 1]. padding_share: of the stop tokens that fill a block behind the answer's end, so many are predicted;
    padding_weight: of these in the loss. kind_weights: of the loss, by kind of branch (1 where a kind is not named).
    """

    block_size: int
    mask_id: int
    stop_id: int
    blocks: int = 22
    from_start: float = 0.8
    all_masked: float = 0.3
    from_left: float = 0.2
    padding_share: float = 0.25
    padding_weight: float = 0.4
    kind_weights: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("block_size", 2), ("blocks", 1)):
            if getattr(self, name) < least:
                raise UserError(
                    f"packing.{name}={getattr(self, name)} is out of range. Allowed: an integer >= {least}."
                )

    def pack(self, lesson: Lesson, kinds: Sequence[str], rng: np.random.Generator) -> PackedLesson:
        """Lay out one lesson. A branch whose unfinished answer is shorter than a block is left out of the blocks."""
        length, size = len(lesson.context), self.block_size
        rows: list[int] = []
        positions: list[int] = []
        branches: list[int] = []
        firsts = []  # row of each answer's first token
        for index, branch in enumerate(lesson.branches):
            own = [*branch.prompt, *branch.answer]
            firsts.append(len(rows) + len(branch.prompt))
            rows += own
            positions += range(length, length + len(own))
            branches += [index] * len(own)
        usable = [i for i, branch in enumerate(lesson.branches) if branch.finished or len(branch.answer) >= size]
        order = [usable[i % len(usable)] for i in range(self.blocks)] if usable else []
        drawn = [(index, self._offset(lesson.branches[index], rng)) for index in order]
        answers = [lesson.branches[i].answer[offset : offset + size] for i, offset in drawn]
        targets = np.full((len(drawn), size), self.stop_id)
        real = np.zeros((len(drawn), size), dtype=bool)
        for block, answer in enumerate(answers):
            targets[block, : len(answer)] = answer
            real[block, : len(answer)] = True
        masked = self._mask(len(drawn), rng)
        padding = self.padding_weight * (rng.random(real.shape) < self.padding_share)
        weights = np.where(real, 1.0, padding) * masked
        weights *= np.array([self.kind_weights.get(lesson.branches[i].kind, 1.0) for i, _ in drawn])[:, None]
        return PackedLesson(
            context=torch.tensor(lesson.context, dtype=torch.long),
            rows=torch.tensor(rows, dtype=torch.long),
            positions=torch.tensor(positions, dtype=torch.long),
            branches=torch.tensor(branches, dtype=torch.long),
            starts=torch.tensor([firsts[i] + offset for i, offset in drawn], dtype=torch.long),
            targets=torch.from_numpy(targets),
            noised=torch.from_numpy(np.where(masked, self.mask_id, targets)),
            masked=torch.from_numpy(masked),
            weights=torch.from_numpy(weights).float(),
            real=torch.from_numpy(real),
            kinds=torch.tensor([kinds.index(lesson.branches[i].kind) for i, _ in drawn], dtype=torch.long),
        )

    def _offset(self, branch: Branch, rng: np.random.Generator) -> int:
        """Where a block begins in an answer: an unfinished answer fills its last block."""
        last = len(branch.answer) - (2 if branch.finished else self.block_size)
        return 0 if last <= 0 or rng.random() < self.from_start else int(rng.integers(last + 1))

    def _mask(self, blocks: int, rng: np.random.Generator) -> np.ndarray:
        """Which slots are masked, `[blocks, block_size]`: never the first, at least one."""
        size = self.block_size
        state, level = rng.random((blocks, 1)), np.maximum(rng.random((blocks, 1)), 1 / size)
        known = 1 + rng.integers(0, max(1, size // 2), size=(blocks, 1))
        masked = rng.random((blocks, size)) < level
        masked = np.where(state < self.all_masked + self.from_left, np.arange(size) >= known, masked)
        masked |= state < self.all_masked
        masked[:, 0] = False
        empty = ~masked.any(1)
        masked[empty, 1] = size > 1
        return masked
