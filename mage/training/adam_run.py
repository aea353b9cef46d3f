"""What the runs with one AdamW share: steps to the end of a schedule, the state on disk, going on from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mage.training.schedule import Cycles, Rise
from mage.training.state import load_state, save_state
from mage.training.trainer import Progress


class AdamRun(ABC):
    """A training run in `folder`. A subclass sets these, `_weights` by name and `_adam` over them, and takes a step."""

    folder: Path
    schedule: Rise | Cycles
    save_every: int
    progress: Progress
    _weights: dict[str, Tensor]
    _adam: torch.optim.AdamW

    @abstractmethod
    def step(self) -> None:
        """Train on one step's examples and count it in `progress`."""

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.schedule.steps

    @property
    def steps_left(self) -> int:
        """Steps still to go."""
        return self.total_steps - self.progress.step

    @property
    def weights(self) -> int:
        """How many numbers are trained."""
        return sum(weight.numel() for weight in self._weights.values())

    def resume(self) -> bool:
        """Go back to the state in the folder, if there is one."""
        saved = load_state(self.folder, self._weights, (self._adam,))
        if saved is not None:
            self.progress = type(self.progress)(**saved)
        return saved is not None

    def run(self, after_step: Callable[[Progress], None]) -> None:
        """Train from where the run stands to the last step."""
        while self.steps_left:
            self.step()
            if self.progress.step % self.save_every == 0 or not self.steps_left:
                self.save()
            after_step(self.progress)

    def save(self) -> None:
        """Write the state of the run to the folder."""
        save_state(self.folder, self._weights, (self._adam,), vars(self.progress))
