"""What a fine-tuning step learns from: answer blocks, each behind a clean prefix of its own that starts with a context
which several share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mage.models.diffusion import DiffusionSpec
from mage.training.packed import Branch, Lesson
from mage.training.schedule import Shape
from mage.training.trainer import Source


@dataclass(frozen=True)
class Examples:
    """`n` blocks; those of one context stand together, equally many for each.

    contexts, positions `[contexts, length]`. tails `[n, width]`: clean tokens between context and block, padded at the
    right; tail_lengths: how many of them count. blocks `[n, block_size]`: clean tokens, of which those before `starts`
    `[n]` belong to the prompt; `ends` `[n]`: where the meaning part of the answer ends. kinds `[n]`: index into the
    names of the source. values `[n, block_size]`, chained `[n]`: see `mage.training.noise`.
    """

    contexts: Tensor
    positions: Tensor
    tails: Tensor
    tail_lengths: list[int]
    blocks: Tensor
    starts: Tensor
    ends: Tensor
    kinds: Tensor
    values: Tensor
    chained: Tensor

    @property
    def lengths(self) -> list[int]:
        """Clean tokens before each block."""
        return [self.contexts.shape[1] + tail for tail in self.tail_lengths]

    @property
    def tokens(self) -> int:
        """Tokens that a step computes, each forward counted once."""
        return self.contexts.numel() + sum(self.tail_lengths) + self.blocks.numel()

    def block_positions(self) -> Tensor:
        """Return the positions of the blocks `[n, block_size]`: they continue those of their prefixes."""
        first = self.behind_context() + torch.tensor(self.tail_lengths, device=self.blocks.device)
        return first[:, None] + torch.arange(self.blocks.shape[1], device=self.blocks.device)

    def behind_context(self) -> Tensor:
        """Return the position behind the context of each block, `[n]`."""
        behind = F.pad(self.positions + 1, (1, 0))[:, -1]
        return behind.repeat_interleave(len(self.tail_lengths) // len(self.positions))

    def to(self, device: torch.device) -> Examples:
        """Return the examples with their tensors on a device."""
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)


class ExampleSource(Protocol):
    """Draws the examples of a step: the same from the same generator state."""

    @property
    def kinds(self) -> Sequence[str]: ...

    def draw(self, rng: np.random.Generator) -> Examples: ...


@dataclass(frozen=True, kw_only=True)
class BatchExamples:
    """Examples from a source of whole batches, such as `tasks.tiny_batches`.

    shapes: of the batches. earlier_blocks: shares of batches whose branches have 0, 1, 2, 3 clean blocks before the
    one to learn. max_positions: see the source.
    """

    source: Source
    shapes: Sequence[Shape]
    block_size: int
    earlier_blocks: tuple[float, ...] = (0.75, 0.18, 0.05, 0.02)
    max_positions: int = 0

    @property
    def kinds(self) -> Sequence[str]:
        return self.source.kinds

    def draw(self, rng: np.random.Generator) -> Examples:
        weights = np.array([shape.weight for shape in self.shapes])
        shape = self.shapes[int(rng.choice(len(self.shapes), p=weights / weights.sum()))]
        shares = np.array(self.earlier_blocks)
        # A code that reaches a third block does not fit a context of two.
        shares[2:] *= shape.length >= 4 * self.block_size
        earlier = int(rng.choice(len(shares), p=shares / shares.sum()))
        batch = self.source.draw(rng, shape.rows, shape.length, shape.branches, earlier, self.max_positions)
        tokens = torch.from_numpy(batch.tokens).flatten(0, 1)
        width = tokens.shape[1] - self.block_size
        flat = {name: torch.from_numpy(getattr(batch, name)).flatten(0, 1) for name in _FLAT}
        return Examples(
            contexts=torch.from_numpy(batch.contexts),
            positions=torch.from_numpy(batch.positions),
            tails=tokens[:, :width],
            tail_lengths=[width] * len(tokens),
            blocks=tokens[:, width:],
            **flat,
        )


_FLAT = ("starts", "ends", "kinds", "values", "chained")


class Lessons(Protocol):
    """See tasks.lessons."""

    @property
    def kinds(self) -> Sequence[str]: ...

    def draw(self, rng: np.random.Generator) -> Lesson: ...


@dataclass(frozen=True, kw_only=True)
class LessonExamples:
    """Examples from lessons: `blocks` blocks of a lesson's answers, spread over its branches.

    A block starts where decoding would start one: at the end of the prompt or of a block before it where finished
    tokens are causal, else at a multiple of the block size, so that the prompt's tail may open it. Behind a finished
    answer stand stop tokens; an unfinished answer gives whole blocks only.
    """

    lessons: Lessons
    spec: DiffusionSpec
    blocks: int = 16

    @property
    def kinds(self) -> Sequence[str]:
        return self.lessons.kinds

    def draw(self, rng: np.random.Generator) -> Examples:
        while True:
            lesson = self.lessons.draw(rng)
            found = [(branch, self._starts(len(lesson.context), branch)) for branch in lesson.branches]
            usable = [(branch, starts) for branch, starts in found if starts]
            if usable:
                break
        drawn = [usable[i % len(usable)] for i in range(self.blocks)]
        cuts = [(branch, starts[int(rng.integers(len(starts)))]) for branch, starts in drawn]
        return self._lay_out(lesson, cuts)

    def _starts(self, context: int, branch: Branch) -> list[int]:
        """Where blocks of a branch may start, counted from the front of its prompt."""
        size, unit = self.spec.block_size, self.spec.prefill_unit
        first = (context + len(branch.prompt)) // unit * unit - context
        whole = len(branch.prompt) + len(branch.answer)
        return [start for start in range(first, whole, size) if branch.finished or start + size <= whole]

    def _lay_out(self, lesson: Lesson, cuts: Sequence[tuple[Branch, int]]) -> Examples:
        size, stop = self.spec.block_size, self.spec.stop_ids[0]
        # A block that starts inside the context takes its last tokens with it.
        shared = len(lesson.context) // self.spec.prefill_unit * self.spec.prefill_unit
        rest = list(lesson.context[shared:])
        tails, blocks, starts, ends = [], [], [], []
        for branch, cut in cuts:
            own, cut = [*rest, *branch.prompt, *branch.answer], cut + len(rest)
            tails.append(own[:cut])
            block = own[cut : cut + size]
            blocks.append(block + [stop] * (size - len(block)))
            starts.append(max(0, len(rest) + len(branch.prompt) - cut))
            ends.append(len(block))
        width = max(map(len, tails))
        none = torch.zeros(len(cuts), size, dtype=torch.bool)
        kinds = [list(self.kinds).index(branch.kind) for branch, _ in cuts]
        return Examples(
            contexts=torch.tensor([list(lesson.context[:shared])], dtype=torch.long),
            positions=torch.arange(shared)[None],
            tails=torch.tensor([tail + [0] * (width - len(tail)) for tail in tails], dtype=torch.long),
            tail_lengths=list(map(len, tails)),
            blocks=torch.tensor(blocks),
            starts=torch.tensor(starts),
            ends=torch.tensor(ends),
            kinds=torch.tensor(kinds),
            values=none,
            chained=none[:, 0],
        )
