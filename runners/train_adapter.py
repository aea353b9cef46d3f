"""runner=train for a block adapter: an autoregressive model learns to write blocks, and is itself left as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mage.errors import UserError, unknown_choice
from mage.training.schedule import Cycles
from runners.exam import Evaluation
from runners.recipe import check_counts, recipe_of
from runners.settings import read_settings
from tasks.errors import TaskError
from tasks.lessons.mix import KINDS, LessonMix

if TYPE_CHECKING:
    from mage.models.checkpoint import LanguageModel
    from mage.training.adapter_trainer import LessonStage
    from mage.training.packed import Packing

SAMPLES = "samples.jsonl"


@dataclass(frozen=True, kw_only=True)
class MixStage:
    """What is learnt from step `begin` on: see `tasks.lessons.mix`. all_masked: instead of the packing's."""

    begin: int
    mix: LessonMix
    all_masked: float | None = None


@dataclass(frozen=True, kw_only=True)
class SampledAnswers:
    """What the base model is asked before training: `interviews` of `questions` each, answers of `max_new` tokens at
    most. See `runners.interviewing`."""

    interviews: int
    questions: int = 5
    max_new: int = 96

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise UserError(f"runner.samples.{name}={value} is out of range. Allowed: an integer >= 1.")


@dataclass(frozen=True, kw_only=True)
class TrainAdapter:
    """Trains an adapter for the config's model and writes to <output_dir>/<name>: the base model's own answers that it
    learns from, the state, train.jsonl, and `adapter`, a folder for `model.adapter`.

    A run that was stopped goes on from its last state; a folder that holds a run with another recipe is refused. An
    adapter that `model.adapter` names is not read. packing, rank, alpha, lessons_per_step, taught, teacher_weight: see
    `mage.training.packed` and `mage.training.adapter_trainer`. threads: of torch (0: as many as there are cores).
    save_every, log_every: in steps.
    """

    stages: tuple[MixStage, ...]
    samples: SampledAnswers
    schedule: Cycles
    evaluation: Evaluation
    packing: dict[str, Any] = field(default_factory=dict)
    rank: int = 24
    alpha: float = 24.0
    lessons_per_step: int = 1
    taught: tuple[str, ...] = ("plain", "sampled")
    teacher_weight: float = 0.7
    threads: int = 0
    save_every: int = 50
    log_every: int = 20
    checkpoint_dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    ignored: tuple[str, ...] = field(
        default=("threads", "save_every", "log_every", "evaluation", "ignored"), repr=False
    )

    def __post_init__(self) -> None:
        begins = [stage.begin for stage in self.stages]
        if not begins or begins[0] != 0 or begins != sorted(set(begins)):
            raise UserError(f"runner.stages: they begin at {begins}. Allowed: growing steps, the first of them 0.")
        check_counts(threads=(self.threads, 0))
        check_counts(
            **{name: (getattr(self, name), 1) for name in ("rank", "lessons_per_step", "save_every", "log_every")}
        )
        for kind in self.taught:
            if kind not in KINDS:
                raise unknown_choice("runner.taught", kind, KINDS)
        if not 0 <= self.teacher_weight <= 1:
            raise UserError(f"runner.teacher_weight={self.teacher_weight} is out of range. Allowed: 0 to 1.")

    def run(self, config: Mapping[str, Any]) -> int:
        """Train to the end of the recipe in the config's folder. Raises `UserError`. Returns the exit status."""
        import torch

        from baselines.dense import Dense
        from mage.models.adapter import Adapter
        from mage.models.checkpoint import DTYPES, load_model
        from mage.training.adapter_trainer import AdapterTrainer
        from runners.checkpoint import inspect
        from runners.exam import Exam
        from runners.feasibility import check_machine, diffusion_spec
        from runners.training import TrainingRun, carry_out

        settings, _ = read_settings(config)
        model_settings = settings.model.model_copy(update={"adapter": None})
        check_machine(model_settings)
        spec, packing, exam = diffusion_spec(model_settings), self._packing(config), Exam(self.evaluation)
        spec.check_adapted()
        if self.threads:
            torch.set_num_threads(self.threads)
        folder = Path(settings.output_dir) / settings.name
        checkpoint = inspect(model_settings)
        model = load_model(
            checkpoint.source,
            spec,
            device=model_settings.device,
            dtype=model_settings.dtype,
            body=checkpoint.config,
            tokenizer=checkpoint.tokenizer,
        )
        trainer = AdapterTrainer(
            base=model.body,
            kinds=KINDS,
            packing=packing,
            schedule=self.schedule,
            folder=folder,
            rank=self.rank,
            alpha=self.alpha,
            lessons_per_step=self.lessons_per_step,
            taught=self.taught,
            teacher_weight=self.teacher_weight,
            seed=settings.seed,
            save_every=self.save_every,
        )
        adapter = folder / "adapter"

        def prepare(say: Callable[[str], None]) -> None:
            trainer.stages = self._stages(model, folder / SAMPLES, say)

        def examine() -> dict[str, float]:
            trainer.adapter().write(adapter, DTYPES[self.checkpoint_dtype], model_settings.name)
            adapted = Adapter.read(adapter).merged_into(model.body, spec.mask_id)
            return exam.take(replace(model, adapted=adapted), {"": (Dense(), None)})

        run = TrainingRun(
            trainer=trainer,
            folder=folder,
            examine=examine,
            every=self.evaluation.every,
            log_every=self.log_every,
            outcome=adapter,
            told=f"model.adapter={adapter}",
            prepare=prepare,
        )
        recipe = recipe_of(config, ("seed",), self.ignored)
        return carry_out(run, config, {**recipe, "model": checkpoint.content_hash})

    def _packing(self, config: Mapping[str, Any]) -> Packing:
        from mage.training.packed import Packing

        model, own = config["model"], ("block_size", "mask_id", "stop_id")
        allowed = [option.name for option in fields(Packing) if option.name not in own]
        for name in self.packing:
            if name not in allowed:
                raise unknown_choice("runner.packing", name, allowed)
        for kind in self.packing.get("kind_weights", {}):
            if kind not in KINDS:
                raise unknown_choice("runner.packing.kind_weights", kind, KINDS)
        return Packing(
            block_size=model["block_size"], mask_id=model["mask_id"], stop_id=model["stop_ids"][0], **self.packing
        )

    def _stages(self, model: LanguageModel, samples: Path, say: Callable[[str], None]) -> list[LessonStage]:
        """Ask the model what it would answer, unless that is done, and return the lessons of each stage.

        Raises `UserError` for a damaged file of answers.
        """
        from mage.training.adapter_trainer import LessonStage

        if any(stage.mix.weights.get("sampled") for stage in self.stages):
            self._interview(model, samples, say)
        stages = []
        for stage in self.stages:
            mix = replace(stage.mix, sampled=str(samples)) if stage.mix.weights.get("sampled") else stage.mix
            try:
                lessons = mix.lessons(model.tokenizer, model.spec.stop_ids[0])
            except TaskError as error:
                raise UserError(str(error)) from error
            stages.append(LessonStage(stage.begin, lessons, stage.all_masked))
        return stages

    def _interview(self, model: LanguageModel, samples: Path, say: Callable[[str], None]) -> None:
        from runners.interviewing import interview_model
        from tasks.lessons.interviews import Interviews

        wanted = self.samples
        say(f"answers of the base model to {wanted.interviews} interviews: {samples}")
        interviews = Interviews(model.tokenizer, model.spec.stop_ids[0])
        interview_model(
            model, interviews, samples, wanted.interviews, questions=wanted.questions, max_new=wanted.max_new
        )
