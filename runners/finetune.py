"""runner=finetune: MAGE's fine-tuning of a loaded model, with states to resume from and evaluation while it trains."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mage.errors import UserError
from mage.training.noise import AnswerNoise
from mage.training.schedule import Rise, Shape
from mage.training.tuner import Change
from runners.building import build
from runners.exam import Evaluation
from runners.recipe import check_counts, recipe_of
from runners.settings import ModelSettings, read_settings

if TYPE_CHECKING:
    from mage.models.diffusion import DiffusionSpec
    from mage.training.examples import ExampleSource
    from mage.training.tuner import Tuner
    from runners.checkpoint import Checkpoint

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class FineTune:
    """Fine-tunes the config's model under its method and budget; writes to <output_dir>/<name>/<label>: the state,
    train.jsonl, and `checkpoint`, a folder for `model.weights`, or `adapter`, one for `model.adapter`.

    A run that was stopped goes on from its last state; a folder that holds a run with another recipe is refused.

    source: a section that names lessons (see `tasks.lessons`), or a source of batches, which have `shapes` and
    `earlier_blocks` (see `mage.training.examples`); blocks: noised blocks of a lesson. noise: of the block that is
    learnt from. The rest: see `mage.training.sparse_tuning` and `mage.training.tuner`. threads: of torch (0: as many as
    there are cores). save_every, log_every: in steps.
    """

    EXPERIMENTS: ClassVar = ("finetune/tiny",)

    label: str
    source: dict[str, Any]
    noise: AnswerNoise
    schedule: Rise
    evaluation: Evaluation
    change: Change = field(default_factory=Change)
    kl_weight: float = 1.0
    objective: Literal["sparse", "dense"] = "sparse"
    select_state: Literal["all_masked", "same"] = "all_masked"
    prefix_gradient: bool = False
    shapes: tuple[Shape, ...] = ()
    earlier_blocks: tuple[float, ...] = (0.75, 0.18, 0.05, 0.02)
    blocks: int = 16
    threads: int = 0
    save_every: int = 50
    log_every: int = 10
    checkpoint_dtype: Literal["bfloat16", "float16", "float32"] = "float32"
    ignored: tuple[str, ...] = field(
        default=("label", "threads", "save_every", "log_every", "evaluation", "ignored"), repr=False
    )

    def __post_init__(self) -> None:
        check_counts(save_every=(self.save_every, 1), log_every=(self.log_every, 1), threads=(self.threads, 0))
        if not LABEL.fullmatch(self.label):
            raise UserError(f"runner.label={self.label}: not a name for a folder. Allowed: letters, digits, . _ -")

    def run(self, config: Mapping[str, Any]) -> int:
        """Train to the end of the recipe in the config's folder. Raises `UserError`. Returns the exit status."""
        import torch

        from baselines.dense import Dense
        from mage.models.checkpoint import DTYPES, load_model
        from runners.checkpoint import inspect
        from runners.exam import Exam
        from runners.feasibility import check_machine, diffusion_spec
        from runners.training import TrainingRun, carry_out

        settings, budget = read_settings(config)
        model, method = settings.model, build("method", settings.method)
        self._check_model(model)
        check_machine(model)
        exam, spec = Exam(self.evaluation), diffusion_spec(model)
        if self.threads:
            torch.set_num_threads(self.threads)
        folder = Path(settings.output_dir) / settings.name / self.label
        checkpoint = inspect(model)
        tuner = self._tuner(folder, settings.seed, method, budget, spec, checkpoint, model)
        kind = "adapter" if self.change.scope == "block" else "checkpoint"
        outcome = folder / kind
        loading: dict[str, Any] = {"device": model.device, "body": checkpoint.config, "tokenizer": checkpoint.tokenizer}
        examined = {"dense": (Dense(), None), str(settings.method.get("name")): (method, budget)}

        def examine() -> dict[str, float]:
            dtype = DTYPES[self.checkpoint_dtype]
            if kind == "adapter":
                from mage.models.adapter import Adapter

                tuner.adapter(checkpoint.adapter).write(outcome, dtype, model.weights)
                tuned = load_model(checkpoint.source, spec, adapter=Adapter.read(outcome), **loading)
            else:
                from mage.models.folder import Folder
                from mage.training.tuned_folder import tunable_folder, write_tuned

                write_tuned(tuner.merged(), tunable_folder(checkpoint.source), outcome, dtype)
                tuned = load_model(Folder(outcome), spec, **loading)
            return exam.take(tuned, examined)

        run = TrainingRun(
            trainer=tuner,
            folder=folder,
            examine=examine,
            every=self.evaluation.every,
            log_every=self.log_every,
            outcome=outcome,
            told=f"model.{'adapter' if kind == 'adapter' else 'weights'}={outcome}",
        )
        recipe = recipe_of(config, ("seed", "method", "budget", "dense_layers"), self.ignored)
        return carry_out(run, config, {**recipe, "model": checkpoint.content_hash})

    def _check_model(self, model: ModelSettings) -> None:
        if model.dtype != "float32":
            raise UserError(f"model.dtype={model.dtype}: fine-tuning runs in float32. Allowed: float32.")
        if model.adapter is not None and self.change.scope == "all":
            raise UserError(
                "runner.change.scope=all: model.adapter holds a model whose denoising forwards have weights of their "
                "own. Allowed with it: runner.change.scope=block."
            )

    def _tuner(
        self,
        folder: Path,
        seed: int,
        method: Any,
        budget: Any,
        spec: DiffusionSpec,
        checkpoint: Checkpoint,
        model: ModelSettings,
    ) -> Tuner:
        from mage.models.checkpoint import load_model
        from mage.training.sparse_tuning import Bodies, SparseTuning
        from mage.training.tuned_folder import tunable_folder
        from mage.training.tuner import Tuner

        tuning = SparseTuning(
            method=method.for_model(checkpoint.config.num_layers, spec.block_size),
            budget=budget,
            spec=spec,
            kl_weight=self.kl_weight,
            objective=self.objective,
            select_state=self.select_state,
            prefix_gradient=self.prefix_gradient,
        )
        layers = checkpoint.config.num_layers
        if self.change.frozen_layers >= layers:
            raise UserError(
                f"runner.change.frozen_layers={self.change.frozen_layers}: the model has {layers} layers. "
                f"Allowed: 0 to {layers - 1}."
            )
        if self.change.scope == "block":
            spec.check_adapted()
        else:
            tunable_folder(checkpoint.source)
        source = self._source(spec)
        loaded = load_model(
            checkpoint.source,
            spec,
            device=model.device,
            body=checkpoint.config,
            tokenizer=checkpoint.tokenizer,
            adapter=checkpoint.adapter,
        )
        return Tuner(
            original=Bodies(loaded.body, loaded.block_body),
            tuning=tuning,
            change=self.change,
            source=source,
            noise=self.noise,
            schedule=self.schedule,
            folder=folder,
            seed=seed,
            save_every=self.save_every,
        )

    def _source(self, spec: DiffusionSpec) -> ExampleSource:
        """Return where examples come from. Raises `UserError`."""
        from mage.training.examples import BatchExamples, LessonExamples

        source = build("runner.source", self.source)
        if not self.shapes:
            return LessonExamples(lessons=source, spec=spec, blocks=self.blocks)
        for shape in self.shapes:
            if shape.length % spec.block_size or shape.length < 2 * spec.block_size:
                raise UserError(
                    f"runner.shapes: length={shape.length} is not allowed: it must be a multiple of the block size "
                    f"{spec.block_size}, and at least {2 * spec.block_size}."
                )
        return BatchExamples(
            source=source, shapes=self.shapes, block_size=spec.block_size, earlier_blocks=self.earlier_blocks
        )
