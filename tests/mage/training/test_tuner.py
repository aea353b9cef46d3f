"""The loop of fine-tuning: resumed runs, what is trained, what is written, examples from lessons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mage.budget import Budget
from mage.errors import UserError
from mage.mage import Mage
from mage.models.diffusion import DiffusionSpec
from mage.training.examples import LessonExamples
from mage.training.noise import AnswerNoise
from mage.training.schedule import Rise
from mage.training.sparse_tuning import Bodies, SparseTuning
from mage.training.trainer import Progress
from mage.training.tuner import Change, Tuner
from tests.mage.naive import tiny_body

SIZE = 8


@dataclass(frozen=True)
class Branch:
    prompt: list[int]
    answer: list[int]
    kind: str = "told"
    finished: bool = True


@dataclass(frozen=True)
class Lesson:
    context: list[int]
    branches: list[Branch]


@dataclass(frozen=True)
class Given:
    """Lessons of random tokens: `context` of them, then prompts of 3 and 6 and answers of 12 and 5."""

    context: int = 37
    kinds: tuple[str, ...] = ("told",)

    def draw(self, rng: np.random.Generator) -> Lesson:
        def words(count: int) -> list[int]:
            return [int(word) for word in rng.integers(3, 61, count)]

        return Lesson(words(self.context), [Branch(words(3), words(12)), Branch(words(6), words(5))])


def causal(anchored: bool = False) -> DiffusionSpec:
    return DiffusionSpec(SIZE, 1, (2,), prefix_attention="causal", anchored=anchored)


def tuner(folder: Path, change: Change | None = None, spec: DiffusionSpec | None = None, steps: int = 6) -> Tuner:
    body, spec = tiny_body("qwen3", 1), spec or DiffusionSpec(SIZE, 1, (2,))
    return Tuner(
        original=Bodies(body, body),
        tuning=SparseTuning(method=Mage(dense_layers=1), budget=Budget(6), spec=spec),
        change=change or Change(),
        source=LessonExamples(lessons=Given(), spec=spec, blocks=3),
        noise=AnswerNoise(mask_id=1, all_masked=0.0),
        schedule=Rise(steps, 1e-2, warmup=2),
        folder=folder,
        save_every=2,
    )


def _ignore(progress: Progress) -> None:
    pass


@pytest.mark.parametrize("weights", ["full", "lowrank"])
def test_resumed_run_equals_an_undisturbed_one(tmp_path: Path, weights: str) -> None:
    change = Change(weights=weights, rank=2, alpha=2.0)  # type: ignore[arg-type]
    whole = tuner(tmp_path / "whole", change)
    whole.run(_ignore)

    class KilledError(Exception):
        pass

    def kill(progress: Progress) -> None:
        if progress.step == 3:
            raise KilledError

    with pytest.raises(KilledError):
        tuner(tmp_path / "cut", change).run(kill)
    rest = tuner(tmp_path / "cut", change)
    assert rest.resume() and rest.progress.step == 2
    rest.run(_ignore)
    assert rest.progress == whole.progress
    for (name, got), wanted in zip(rest.merged().named_parameters(), whole.merged().parameters(), strict=True):
        assert torch.equal(got, wanted), name


@pytest.mark.parametrize("weights", ["full", "lowrank"])
def test_the_original_and_its_teacher_stay_as_they_are(tmp_path: Path, weights: str) -> None:
    run = tuner(tmp_path, Change(weights=weights, rank=2))  # type: ignore[arg-type]
    before = [weight.clone() for weight in run.original.block.parameters()]
    run.step()
    run.step()
    assert all(torch.equal(a, b) for a, b in zip(before, run.original.block.parameters(), strict=True))
    changed = [not torch.equal(a, b) for a, b in zip(before, run.merged().parameters(), strict=True) if a.dim() == 2]
    assert any(changed) and (weights == "lowrank" or all(changed))


@pytest.mark.parametrize("weights", ["full", "lowrank"])
def test_the_first_layers_may_stay_as_they_are(tmp_path: Path, weights: str) -> None:
    run = tuner(tmp_path, Change(weights=weights, rank=2, frozen_layers=2))  # type: ignore[arg-type]
    run.step()
    run.step()
    before, after = run.original.block.state_dict(), run.merged().state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("layers.2." in name or name.startswith(("lm_head", "model.norm")) for name in changed)


def test_the_loss_falls_on_what_is_learnt(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Same(Given):
        def draw(self, rng: np.random.Generator) -> Lesson:
            return super().draw(np.random.default_rng(0))

    run = tuner(tmp_path, steps=30)
    run.source = LessonExamples(lessons=Same(), spec=run.tuning.spec, blocks=3)
    run.step()
    first = run.progress.cross_entropy
    run.run(_ignore)
    assert run.progress.cross_entropy < 0.5 * first


def test_a_tuned_block_leaves_an_adapter_with_the_same_denoising_forwards(tmp_path: Path) -> None:
    run = tuner(tmp_path, Change(weights="lowrank", scope="block", rank=2, alpha=3.0), causal(), steps=4)
    run.run(_ignore)
    first = run.adapter(None)
    body = run.original.prefix
    merged = first.merged_into(body, mask_id=1)
    for (name, got), wanted in zip(merged.state_dict().items(), run.merged().state_dict().values(), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5, msg=name)
    again = Tuner(**{**_fields(run), "original": Bodies(body, merged), "folder": tmp_path / "again"})  # type: ignore[arg-type]
    again.progress = type(run.progress)()
    again.run(_ignore)
    both = again.adapter(first).merged_into(body, mask_id=1)
    for (name, got), wanted in zip(both.state_dict().items(), again.merged().state_dict().values(), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5, msg=name)


def _fields(run: Tuner) -> dict[str, object]:
    return {name: getattr(run, name) for name in Tuner.__dataclass_fields__ if name != "progress"}


def test_a_block_of_a_lesson_starts_where_decoding_would_start_one() -> None:
    whole_blocks = DiffusionSpec(SIZE, 1, (2,))
    for spec, context in ((whole_blocks, 37), (whole_blocks, 5), (causal(), 37)):
        source = LessonExamples(lessons=Given(context), spec=spec, blocks=6)
        for seed in range(20):
            given = source.draw(np.random.default_rng(seed))
            lesson = Given(context).draw(np.random.default_rng(seed))
            for row in range(6):
                branch = lesson.branches[row % 2]
                whole = [*lesson.context, *branch.prompt, *branch.answer, *[2] * SIZE]
                tail = given.tails[row, : given.tail_lengths[row]].tolist()
                before = [*given.contexts[0].tolist(), *tail]
                assert whole[: len(before)] == before
                assert whole[len(before) : len(before) + SIZE] == given.blocks[row].tolist()
                prompt = len(lesson.context) + len(branch.prompt)
                assert given.starts[row] == max(0, prompt - len(before))
                assert len(before) + int(given.ends[row]) <= prompt + len(branch.answer)
                first = prompt if spec.causal else prompt // SIZE * SIZE
                assert len(before) >= first and (len(before) - first) % SIZE == 0
                assert given.block_positions()[row, 0] == len(before)


def test_a_token_that_is_decided_before_the_first_step_is_never_masked(tmp_path: Path) -> None:
    run = tuner(tmp_path, spec=causal(anchored=True))
    seen: list[Tensor] = []
    original = SparseTuning.outcome

    def watched(self: SparseTuning, *arguments: object) -> object:
        seen.append(arguments[3].masked)  # type: ignore[attr-defined]
        return original(self, *arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SparseTuning, "outcome", watched)
        run.run(_ignore)
    assert not torch.cat(seen)[:, 0].any() and torch.cat(seen)[:, 1:].any()


def test_slips_are_refused() -> None:
    with pytest.raises(UserError, match=r"runner.change.rank=0"):
        Change(rank=0)
    with pytest.raises(UserError, match=r"scope=block needs runner.change.weights=lowrank"):
        Change(scope="block")
