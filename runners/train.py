"""runner=train: train a model from scratch, with a bar, states to resume from, and evaluation while it trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mage.models.config import BodyConfig
from mage.training.initialisation import Structure
from mage.training.noise import AnswerNoise
from mage.training.schedule import Stage
from runners.exam import Evaluation
from runners.recipe import check_counts, recipe_of
from tasks.tiny_batches import TinyBatches

if TYPE_CHECKING:
    from mage.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Train:
    """Trains `body` and writes to <output_dir>/<name>: the state, train.jsonl, and a checkpoint folder.

    A run that was stopped goes on from its last state; a folder that holds a run with another recipe is refused.
    threads: of torch (0: as many as there are cores). save_every, log_every: in steps. See `mage.training.trainer`.
    """

    EXPERIMENTS: ClassVar = ("train/tiny", "train/smollm2_135m")

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

    def __post_init__(self) -> None:
        check_counts(save_every=(self.save_every, 1), log_every=(self.log_every, 1), threads=(self.threads, 0))

    def run(self, config: Mapping[str, Any]) -> int:
        """Train to the end of the recipe in the config's folder. Raises `UserError`. Returns the exit status."""
        import torch

        from baselines.dense import Dense
        from mage.models.checkpoint import DTYPES, load_model
        from mage.training.export import export_checkpoint
        from runners.exam import Exam
        from runners.feasibility import diffusion_spec
        from runners.settings import ModelSettings
        from runners.training import TrainingRun, carry_out
        from tasks.tiny_words import SPECIAL, VOCABULARY

        if self.threads:
            torch.set_num_threads(self.threads)
        folder = Path(config["output_dir"]) / config["name"]
        trainer = self._trainer(folder, config["seed"])
        exam, spec = Exam(self.evaluation), diffusion_spec(ModelSettings.model_validate(config["model"]))
        checkpoint = folder / "checkpoint"

        def examine() -> dict[str, float]:
            export_checkpoint(trainer.body, checkpoint, VOCABULARY, SPECIAL, DTYPES[self.checkpoint_dtype])
            return exam.take(load_model(checkpoint, spec), {"": (Dense(), None)})

        run = TrainingRun(
            trainer=trainer,
            folder=folder,
            examine=examine,
            every=self.evaluation.every,
            log_every=self.log_every,
            outcome=checkpoint,
            told=f"model.weights={checkpoint}",
        )
        return carry_out(run, config, recipe_of(config, ("seed",), self.ignored))

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
