"""The loop of MAGE's fine-tuning: few steps of AdamW on all weights of a loaded model, or on low-rank changes of it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mage.errors import UserError, unknown_choice
from mage.models.adapter import Adapter
from mage.models.transformer import Transformer
from mage.training.adam_run import AdamRun
from mage.training.examples import Examples, ExampleSource
from mage.training.lora import LoraLinear, adapt, shared_copy
from mage.training.noise import AnswerNoise, Noised
from mage.training.schedule import Rise
from mage.training.sparse_tuning import Bodies, SparseTuning
from mage.training.trainer import Progress

_CLIP = 1.0


@dataclass
class TuningProgress(Progress):
    """Where a run stands, with the two parts of the last step's loss."""

    cross_entropy: float = float("nan")
    divergence: float = float("nan")


@dataclass(frozen=True, kw_only=True)
class Change:
    """What fine-tuning changes.

    weights: all of them (`full`), or low-rank changes of the linear maps (`lowrank`), of `rank` and `alpha`. scope: the
    whole model (`all`), or its denoising forwards only (`block`): then the clean prefix stays what it was, and the
    outcome is an adapter. frozen_layers: the first layers, and where there are any the embedding, stay as they are;
    layers that a method leaves dense have little to learn. teacher: the source says "exact teacher". Read as a teacher
    of its own it is the model before fine-tuning (`frozen`); read as the same weights with exact attention it is the
    model in training (`self`), which then has nothing but its own sparsity to lose.
    """

    weights: Literal["full", "lowrank"] = "full"
    rank: int = 16
    alpha: float = 16.0
    scope: Literal["all", "block"] = "all"
    frozen_layers: int = 0
    teacher: Literal["frozen", "self"] = "frozen"

    def __post_init__(self) -> None:
        for name, allowed in (("weights", ("full", "lowrank")), ("scope", ("all", "block")), ("teacher", _TEACHERS)):
            if getattr(self, name) not in allowed:
                raise unknown_choice(f"runner.change.{name}", getattr(self, name), allowed)
        if self.rank < 1:
            raise UserError(f"runner.change.rank={self.rank} is out of range. Allowed: an integer >= 1.")
        if self.frozen_layers < 0:
            raise UserError(
                f"runner.change.frozen_layers={self.frozen_layers} is out of range. Allowed: an integer >= 0."
            )
        if self.scope == "block" and self.weights == "full":
            raise UserError("runner.change.scope=block needs runner.change.weights=lowrank: its outcome is an adapter.")


_TEACHERS = ("frozen", "self")


@dataclass(kw_only=True)
class Tuner(AdamRun):
    """Fine-tunes a model; the objective is `tuning`.

    original: float32 bodies, which stay as they are. schedule: of the learning rate. seed: of examples, noise and
    low-rank changes; every step has generators of its own, so that a resumed run goes on exactly. save_every: steps
    between states on disk in `folder`.
    """

    original: Bodies
    tuning: SparseTuning
    change: Change
    source: ExampleSource
    noise: AnswerNoise
    schedule: Rise
    folder: Path
    seed: int = 0
    save_every: int = 50
    progress: TuningProgress = field(default_factory=TuningProgress)

    def __post_init__(self) -> None:
        self.changes: dict[str, LoraLinear] = {}
        if self.change.weights == "full":
            body: Transformer = copy.deepcopy(self.original.block).requires_grad_(True)
        else:
            body, self.changes = adapt(self.original.block, self.change.rank, self.change.alpha, self.seed)
        if self.change.frozen_layers:
            body.model.embed_tokens.requires_grad_(False)
            body.model.layers[: self.change.frozen_layers].requires_grad_(False)
        self.student = Bodies(body if self.change.scope == "all" else self.original.prefix, body)
        self._teacher = self.original if self.change.teacher == "frozen" else self.student
        self._weights = {name: weight for name, weight in body.named_parameters() if weight.requires_grad}
        self._adam = torch.optim.AdamW(self._weights.values(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.0)

    def step(self) -> None:
        """Train on one draw of examples."""
        progress = self.progress
        rng = np.random.default_rng((self.seed, progress.step))
        examples = self.source.draw(rng)
        noised = self._noise(examples, torch.Generator().manual_seed(int(rng.integers(2**62))))
        device = self.original.block.lm_head.weight.device
        examples, noised = examples.to(device), Noised(*(part.to(device) for part in vars(noised).values()))
        outcome = self.tuning.outcome(self.student, self._teacher, examples, noised)
        self._adam.zero_grad(set_to_none=True)
        outcome.loss.backward()
        nn.utils.clip_grad_norm_(self._weights.values(), _CLIP)
        for group in self._adam.param_groups:
            group["lr"] = self.schedule.rate(progress.step)
        self._adam.step()
        progress.step += 1
        progress.tokens += examples.tokens
        progress.loss = outcome.loss.item()
        progress.cross_entropy, progress.divergence = outcome.cross_entropy.item(), outcome.divergence.item()
        self._score(examples, noised, outcome.right)

    @torch.no_grad()
    def merged(self) -> Transformer:
        """Return a body of its own with what was learnt so far: of `scope=all` the model, of `block` its block body."""
        body = shared_copy(self.original.block) if self.changes else copy.deepcopy(self.student.block)
        for name, change in self.changes.items():
            body.get_submodule(name).weight = nn.Parameter(change.merged(), requires_grad=False)
        return body.requires_grad_(False)

    @torch.no_grad()
    def adapter(self, before: Adapter | None) -> Adapter:
        """Return what was learnt with `scope=block`, on top of the adapter that the model had `before`.

        Two low-rank changes add up to one of their ranks' sum; a map that one of them leaves alone has zeros there.
        """
        own = {name: (change.a, change.b * change.scale) for name, change in self.changes.items()}
        old: dict[str, tuple[Tensor, Tensor]] = {}
        if before is not None:
            scale = before.alpha / before.rank
            old = {name: (a.float(), b.float() * scale) for name, (a, b) in before.factors.items()}
        rank = self.change.rank + (before.rank if before else 0)
        factors = {}
        for name in {**old, **own}:
            parts = [tuple(factor.cpu() for factor in found[name]) for found in (old, own) if name in found]
            a, b = torch.cat([a for a, _ in parts]), torch.cat([b for _, b in parts], dim=1)
            missing = rank - a.shape[0]
            factors[name] = (F.pad(a, (0, 0, 0, missing)), F.pad(b, (0, missing)))
        return Adapter(rank, float(rank), factors, before.mask_embedding if before else None)

    def _noise(self, examples: Examples, generator: torch.Generator) -> Noised:
        # A token that decoding knows before the first step belongs to what is known.
        own = replace(examples, starts=self.tuning.masked_from(examples))
        return self.noise(own.blocks, own.starts, own.ends, own.values, own.chained, generator)

    def _score(self, examples: Examples, noised: Noised, right: Tensor) -> None:
        place = torch.arange(right.shape[1], device=right.device)
        words = noised.masked & (place < examples.ends[:, None]) & (noised.distance == 1)
        for index, kind in enumerate(self.source.kinds):
            asked = words & (examples.kinds == index)[:, None]
            if bool(asked.any()):
                self.progress.smooth(kind, right[asked].float().mean().item())
