"""The training loop: batches, loss, optimisers, stages, state on disk. It prints nothing and evaluates nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mage.errors import UserError
from mage.models.transformer import Transformer
from mage.training.fused import fuse_norms
from mage.training.initialisation import Structure
from mage.training.muon import Muon
from mage.training.noise import AnswerNoise, Noised
from mage.training.objective import branch_outcome
from mage.training.schedule import Stage
from mage.training.state import load_state, save_state

_SMOOTHING = 0.95
_CLIP = 1.0


class Batch(Protocol):
    """Arrays of a batch, as `tasks.tiny_batches.Branches` describes them."""

    @property
    def contexts(self) -> Any: ...
    @property
    def positions(self) -> Any: ...
    @property
    def tokens(self) -> Any: ...
    @property
    def starts(self) -> Any: ...
    @property
    def ends(self) -> Any: ...
    @property
    def kinds(self) -> Any: ...
    @property
    def chained(self) -> Any: ...
    @property
    def values(self) -> Any: ...


class Source(Protocol):
    """Where batches come from. It must draw the same batch from the same generator state."""

    @property
    def kinds(self) -> Sequence[str]: ...

    def draw(
        self, rng: np.random.Generator, rows: int, length: int, branches: int, earlier: int, max_positions: int
    ) -> Batch: ...


@dataclass
class Progress:
    """Where a run stands. accuracy: of the tokens next to a known one, by kind, smoothed over about 20 batches."""

    step: int = 0
    stage: int = 0
    stage_step: int = 0
    tokens: int = 0
    loss: float = float("nan")
    accuracy: dict[str, float] = field(default_factory=dict)

    def smooth(self, kind: str, value: float) -> None:
        self.accuracy[kind] = value + _SMOOTHING * (self.accuracy.get(kind, value) - value)


@dataclass(kw_only=True)
class Trainer:
    """Trains a body on branches over clean contexts.

    body: float32, initialised already; resumed in place when `folder` holds a state. source: of the batches. stages:
    run one after the other. earlier_blocks: shares of batches whose branches have 0, 1, 2, 3 clean blocks before the
    noised one. seed: of batches and noise; every step has generators of its own, so that a resumed run goes on exactly.
    forward_dtype: of a copy of the weights that forward and backward run in; the weights themselves stay float32.
    save_every: steps between states on disk.
    """

    body: Transformer
    structure: Structure
    source: Source
    noise: AnswerNoise
    stages: Sequence[Stage]
    folder: Path
    block_size: int
    seed: int = 0
    earlier_blocks: tuple[float, ...] = (0.75, 0.18, 0.05, 0.02)
    forward_dtype: torch.dtype = torch.bfloat16
    save_every: int = 200

    def __post_init__(self) -> None:
        for length in (shape.length for stage in self.stages for shape in stage.shapes):
            if length < 2 * self.block_size or length % self.block_size:
                raise UserError(
                    f"stages: length={length} is not allowed: it must be a multiple of the block size "
                    f"{self.block_size}, and at least {2 * self.block_size}."
                )
        frozen = self.structure.frozen()
        self._weights: dict[str, Tensor] = dict(self.body.named_parameters())
        trained = {name: weight for name, weight in self._weights.items() if name not in frozen}
        matrices = {n: w for n, w in trained.items() if w.dim() == 2 and ".layers." in n}
        others = [weight for name, weight in trained.items() if name not in matrices]
        self._muon = Muon(matrices.values(), lr=0.0)
        self._adam = torch.optim.AdamW(others, lr=0.0, betas=(0.9, 0.95), weight_decay=0.0)
        self._trained = list(trained.values())
        self._copy = copy.deepcopy(self.body).to(self.forward_dtype).requires_grad_(False)
        fuse_norms(self._copy)
        copies = dict(self._copy.named_parameters())
        self._pairs = [(weight, copies[name].requires_grad_(name in trained)) for name, weight in self._weights.items()]
        self.progress = Progress()

    @property
    def weights(self) -> int:
        """How many numbers the model has."""
        return sum(weight.numel() for weight in self._weights.values())

    @property
    def total_steps(self) -> int:
        """Steps if no stage ends early."""
        return sum(stage.steps for stage in self.stages)

    @property
    def steps_left(self) -> int:
        """Steps still to go if no stage ends early."""
        return sum(stage.steps for stage in self.stages[self.progress.stage :]) - self.progress.stage_step

    def resume(self) -> bool:
        """Go back to the state in the folder, if there is one."""
        saved = load_state(self.folder, self._weights, (self._muon, self._adam))
        if saved is None:
            return False
        self.progress = Progress(**saved)
        self._refresh_copy()
        return True

    def run(self, after_step: Callable[[Progress], None]) -> None:
        """Train from where the run stands to the end of the last stage."""
        while self.progress.stage < len(self.stages):
            self.step()
            if self.progress.step % self.save_every == 0 or self.progress.stage == len(self.stages):
                self.save()
            after_step(self.progress)

    def save(self) -> None:
        """Write the state of the run to the folder."""
        save_state(self.folder, self._weights, (self._muon, self._adam), vars(self.progress))

    def step(self) -> None:
        """Train on one batch."""
        progress, stage = self.progress, self.stages[self.progress.stage]
        rng = np.random.default_rng((self.seed, progress.step))
        batch = self._draw(rng, stage)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        tokens, starts, ends, chained, values = (
            torch.from_numpy(array) for array in (batch.tokens, batch.starts, batch.ends, batch.chained, batch.values)
        )
        noise = replace(self.noise, values_only=stage.values_only)
        noised = noise(tokens[:, :, -self.block_size :], starts, ends, values, chained, generator)
        contexts, positions = torch.from_numpy(batch.contexts), torch.from_numpy(batch.positions)
        outcome = branch_outcome(self._copy, contexts, positions, tokens, noised, self.block_size)
        self._copy.zero_grad(set_to_none=True)
        outcome.loss.backward()
        self._update(stage)
        progress.step += 1
        progress.stage_step += 1
        progress.tokens += contexts.numel() + tokens.numel()
        progress.loss = outcome.loss.item()
        self._score(batch, noised, outcome.right)
        if self._stage_done(stage):
            progress.stage, progress.stage_step = progress.stage + 1, 0

    def _draw(self, rng: np.random.Generator, stage: Stage) -> Batch:
        shape = stage.shape(rng)
        shares = np.array(self.earlier_blocks)
        # A code that reaches a third block does not fit a context of two.
        shares[2:] *= shape.length >= 4 * self.block_size
        earlier = int(rng.choice(len(shares), p=shares / shares.sum()))
        branches = max(2, shape.branches * 3 // (2 * (earlier + 1))) if earlier else shape.branches
        return self.source.draw(rng, shape.rows, shape.length, branches, earlier, stage.max_positions)

    def _update(self, stage: Stage) -> None:
        for weight, shadow in self._pairs:
            weight.grad = None if shadow.grad is None else shadow.grad.float()
        torch.nn.utils.clip_grad_norm_(self._trained, _CLIP)
        self.structure.mask_gradients(self.body)
        rate = stage.rate(self.progress.stage_step)
        for optimiser, lr in ((self._muon, stage.muon_lr), (self._adam, stage.adam_lr)):
            for group in optimiser.param_groups:
                group["lr"] = lr * rate
            optimiser.step()
        self._refresh_copy()

    @torch.no_grad()
    def _refresh_copy(self) -> None:
        for weight, shadow in self._pairs:
            shadow.copy_(weight)

    def _score(self, batch: Batch, noised: Noised, right: Tensor) -> None:
        place = torch.arange(self.block_size)
        # The last token of an answer's meaning part is its stop token.
        words = noised.masked & (place + 1 < torch.from_numpy(batch.ends)[..., None]) & (noised.distance == 1)
        kinds = torch.from_numpy(batch.kinds)
        for index, kind in enumerate(self.source.kinds):
            asked = words & (kinds == index)[..., None]
            if asked.any():
                self.progress.smooth(kind, right[asked].float().mean().item())

    def _stage_done(self, stage: Stage) -> bool:
        progress = self.progress
        if progress.stage_step >= stage.steps:
            return True
        if stage.advance_at is None or progress.stage_step < 100 or len(progress.accuracy) < len(self.source.kinds):
            return False
        reached = list(progress.accuracy.values())
        return sum(reached) / len(reached) >= stage.advance_at and min(reached) >= stage.floor
