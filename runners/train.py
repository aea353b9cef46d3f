"""runner=train: train a model from scratch, with a bar, states to resume from, and evaluation while it trains."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from mage.errors import UserError
from mage.models.config import BodyConfig
from mage.training.initialisation import Structure
from mage.training.noise import AnswerNoise
from mage.training.schedule import Stage
from tasks.tiny_batches import TinyBatches

if TYPE_CHECKING:
    from mage.training.trainer import Trainer

RECIPE = "recipe.json"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Generation on held-out examples: every `every` steps and at the end, `examples` for each of `tasks`.

    decoding: a section like conf/decoding; tasks: sections like conf/task, by the name they are shown with.
    """

    every: int
    examples: int
    decoding: dict[str, Any]
    tasks: dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Train:
    """Trains `body` and writes to <output_dir>/<name>: the state, train.jsonl, and a checkpoint folder.

    A run that was stopped goes on from its last state; a folder that holds a run with another recipe is refused.
    threads: of torch (0: as many as there are cores). save_every, log_every: in steps. See `mage.training.trainer`.
    """

    body: BodyConfig
    structure: Structure
    noise: AnswerNoise
    source: TinyBatches
    stages: tuple[Stage, ...]
    evaluation: Evaluation
    earlier_blocks: tuple[float, ...] = (0.75, 0.18, 0.05, 0.02)
    threads: int = 0
    save_every: int = 200
    log_every: int = 50
    checkpoint_dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    ignored: tuple[str, ...] = field(default=("threads", "save_every", "log_every", "evaluation"), repr=False)

    def run(self, config: Mapping[str, Any]) -> int:
        """Train to the end of the recipe in the config's folder. Raises `UserError`. Returns the exit status."""
        import torch

        from runners.limits import terminable
        from runners.lock import LockedError, locked
        from runners.training import TrainingDisplay, TrainingRun

        if self.threads:
            torch.set_num_threads(self.threads)
        folder = Path(config["output_dir"]) / config["name"]
        run = TrainingRun(self, self._trainer(folder, config["seed"]), folder, config["model"])
        folder.mkdir(parents=True, exist_ok=True)
        console = Console() if sys.stdout.isatty() else Console(width=120)
        try:
            with locked(folder), terminable(), TrainingDisplay(console) as display:
                self._claim(folder, config)
                run.finish(display)
        except LockedError as lock:
            raise UserError(f"name={config['name']}: its folder {folder} is {lock}.") from lock
        return 0

    def _trainer(self, folder: Path, seed: int) -> Trainer:
        import torch

        from mage.models.transformer import Transformer
        from mage.training.trainer import Trainer

        body = Transformer(self.body)
        self.structure.initialise(body, torch.Generator().manual_seed(seed))
        return Trainer(
            body=body,
            structure=self.structure,
            source=self.source,
            noise=self.noise,
            stages=self.stages,
            folder=folder,
            block_size=self.source.block_size,
            seed=seed,
            earlier_blocks=self.earlier_blocks,
            save_every=self.save_every,
        )

    def _claim(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Write the recipe down, or refuse a folder that holds another one."""
        told = {key: value for key, value in config["runner"].items() if key not in self.ignored}
        recipe = json.loads(json.dumps({**told, "seed": config["seed"]}))
        path = folder / RECIPE
        if not path.is_file():
            path.write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
            return
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = _changed(before, recipe)
        if changed:
            raise UserError(
                f"{path}: this folder holds a run with another {changed[0]}. Give the new run another name, "
                "or delete the folder."
            )


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> Sequence[str]:
    return [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
