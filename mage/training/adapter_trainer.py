"""Training of a block adapter: a frozen autoregressive model learns to write a block of tokens at once.

The prefix of a block is exactly the base model's, so the clean pass needs no gradient; only the noised blocks run
through the low-rank changes (`mage.training.packed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mage.models.adapter import Adapter
from mage.models.transformer import Transformer
from mage.training.adam_run import AdamRun
from mage.training.distillation import BlockOutcome, block_outcome
from mage.training.fused import fuse_norms
from mage.training.lora import MaskEmbedding, adapt
from mage.training.packed import Lesson, PackedLesson, Packing
from mage.training.schedule import Cycles
from mage.training.trainer import Progress

_CLIP = 1.0


class Lessons(Protocol):
    """Where lessons come from. It must draw the same lesson from the same generator state."""

    def draw(self, rng: np.random.Generator) -> Lesson: ...


@dataclass(frozen=True)
class LessonStage:
    """Lessons that are drawn from step `begin` on. all_masked: instead of the packing's, where it is given."""

    begin: int
    lessons: Lessons
    all_masked: float | None = None


@dataclass(kw_only=True)
class AdapterTrainer(AdamRun):
    """Trains the adapter of `base`, a causal body whose weights, in the dtype that training runs in, stay as they are.

    kinds: of branches. stages: in order, the first from step 0; they may be set until the first step. A step takes
    `lessons_per_step` lessons. schedule: of AdamW's learning rate. rank, alpha: of the low-rank changes. taught: kinds
    of branches whose target is the base model's own distribution, with `teacher_weight` (see
    `mage.training.distillation`). seed: of lessons, noise and initial weights; every step has generators of its own, so
    that a resumed run goes on exactly. save_every: steps between states on disk.
    """

    base: Transformer
    kinds: Sequence[str]
    packing: Packing
    schedule: Cycles
    folder: Path
    stages: Sequence[LessonStage] = ()
    rank: int = 24
    alpha: float = 24.0
    lessons_per_step: int = 1
    taught: tuple[str, ...] = ("plain", "sampled")
    teacher_weight: float = 0.7
    seed: int = 0
    save_every: int = 100
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self._adapted, self._changes = adapt(self.base, self.rank, self.alpha, self.seed)
        embedding = MaskEmbedding(self._adapted.model.embed_tokens, self.packing.mask_id)
        self._adapted.model.embed_tokens = embedding
        fuse_norms(self._adapted)
        self._embedding = embedding
        self._weights = {name: w for name, w in self._adapted.named_parameters() if w.requires_grad}
        self._adam = torch.optim.AdamW(self._weights.values(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.0)
        kinds = torch.tensor([kind in self.taught for kind in self.kinds])
        self._taught = kinds.to(self.base.lm_head.weight.device)

    def step(self) -> None:
        """Train on one step's lessons."""
        progress = self.progress
        rng = np.random.default_rng((self.seed, progress.step))
        self._adam.zero_grad(set_to_none=True)
        loss = 0.0
        for _ in range(self.lessons_per_step):
            packed = self._pack(rng)
            outcome = block_outcome(self.base, self._adapted, packed, self._taught[packed.kinds], self.teacher_weight)
            (outcome.loss / self.lessons_per_step).backward()
            loss += outcome.loss.item() / self.lessons_per_step
            progress.tokens += packed.tokens
            self._score(packed, outcome)
        nn.utils.clip_grad_norm_(self._weights.values(), _CLIP)
        for group in self._adam.param_groups:
            group["lr"] = self.schedule.rate(progress.step)
        self._adam.step()
        progress.step += 1
        progress.loss = loss

    def adapter(self) -> Adapter:
        """Return what was learnt so far, in float32 on the CPU."""
        factors = {name: (_kept(change.a), _kept(change.b)) for name, change in self._changes.items()}
        return Adapter(self.rank, self.alpha, factors, _kept(self._embedding.mask))

    def _pack(self, rng: np.random.Generator) -> PackedLesson:
        stage = next(stage for stage in reversed(self.stages) if stage.begin <= self.progress.step)
        packing = self.packing if stage.all_masked is None else replace(self.packing, all_masked=stage.all_masked)
        while True:
            packed = packing.pack(stage.lessons.draw(rng), self.kinds, rng)
            if packed.starts.numel():
                return packed.to(self.base.lm_head.weight.device)

    def _score(self, packed: PackedLesson, outcome: BlockOutcome) -> None:
        """Accuracy by kind: of all answer tokens where the whole block is masked, and of the surest one otherwise."""
        first = packed.masked[:, 1:].all(-1, keepdim=True)
        asked = packed.masked & packed.real
        for index, kind in enumerate(self.kinds):
            of_kind = asked & (packed.kinds == index)[:, None]
            for name, places in ((kind, of_kind & first), (f"{kind}_next", of_kind & ~first & outcome.surest)):
                if bool(places.any()):
                    self.progress.smooth(name, outcome.right[places].float().mean().item())


def _kept(weight: Tensor) -> Tensor:
    return weight.detach().float().cpu().clone()
