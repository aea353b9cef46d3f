"""Training of a block adapter against plain implementations: the loss, the attention, the gradient, resuming."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mage.models.transformer import Transformer
from mage.training.adapter_trainer import AdapterTrainer, LessonStage
from mage.training.distillation import block_outcome
from mage.training.fused_loss import Taught, output_losses
from mage.training.lora import adapt
from mage.training.packed import PackedLesson, Packing
from mage.training.packed_attention import block_hidden, clean_rows
from mage.training.schedule import Cycles, Rise
from tests.mage.naive import tiny_body

MASK, STOP, SIZE = 1, 2, 8
VOCABULARY = 40


@dataclass(frozen=True)
class OneBranch:
    prompt: list[int]
    answer: list[int]
    kind: str
    finished: bool


@dataclass(frozen=True)
class OneLesson:
    context: list[int]
    branches: list[OneBranch]


@dataclass(frozen=True)
class RandomLessons:
    """Branches of all sorts: without a prompt, cut off, longer than a block, shorter than one."""

    context: int = 13
    kinds: tuple[str, ...] = ("needle", "plain")

    def draw(self, rng: np.random.Generator) -> OneLesson:
        def ids(count: int) -> list[int]:
            return [int(i) for i in rng.integers(3, VOCABULARY, count)]

        return OneLesson(
            ids(self.context),
            [
                OneBranch(ids(5), [*ids(4), STOP], "needle", True),
                OneBranch([], ids(SIZE + 3), "plain", False),
                OneBranch(ids(2), [*ids(2 * SIZE), STOP], "needle", True),
                OneBranch(ids(1), ids(SIZE - 1), "plain", False),
            ],
        )


def packing(**changes: object) -> Packing:
    return replace(Packing(block_size=SIZE, mask_id=MASK, stop_id=STOP, blocks=9), **changes)


def body() -> Transformer:
    return tiny_body("llama")


def packed(seed: int = 0, context: int = 13, **changes: object) -> tuple[OneLesson, PackedLesson]:
    rng = np.random.default_rng(seed)
    lessons = RandomLessons(context)
    lesson = lessons.draw(rng)
    return lesson, packing(**changes).pack(lesson, lessons.kinds, rng)


def naive_hidden(model: Transformer, clean: Tensor, block: Tensor, adapted: Transformer) -> Tensor:
    """One block behind its own clean tokens: the clean ones causal under `model`, the block whole under `adapted`."""
    keys: list[Tensor] = []
    values: list[Tensor] = []

    def attend_clean(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys.append(k)
        values.append(v)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    def attend_block(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k, v = torch.cat((keys[layer], k), dim=2), torch.cat((values[layer], v), dim=2)
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    places = torch.arange(len(clean) + len(block))[None]
    model.hidden(clean[None], places[:, : len(clean)], attend_clean)
    return adapted.hidden(block[None], places[:, len(clean) :], attend_block)[0]


@torch.no_grad()
def randomised(adapted_changes: dict[str, torch.nn.Module]) -> None:
    for index, change in enumerate(adapted_changes.values()):
        change.b.normal_(0, 0.3, generator=torch.Generator().manual_seed(index))  # type: ignore[operator]


@pytest.mark.parametrize("context", [0, 1, 13])
def test_blocks_see_their_own_clean_tokens_and_nothing_else(context: int) -> None:
    base = body()
    adapted, changes = adapt(base, 3, 6.0, 0)
    randomised(changes)  # type: ignore[arg-type]
    lesson, laid = packed(context=context, from_start=0.3)
    with torch.no_grad():
        found = block_hidden(adapted, laid, clean_rows(base, laid))
        for block in range(len(laid.starts)):
            start = int(laid.starts[block])
            rows = [row for row in range(start) if laid.branches[row] == laid.branches[start]]
            clean = torch.tensor([*lesson.context, *laid.rows[rows].tolist()])
            if not len(clean):
                continue
            torch.testing.assert_close(found[block], naive_hidden(base, clean, laid.noised[block], adapted))


def test_layout() -> None:
    lesson, laid = packed(from_start=0.4)
    assert laid.context.tolist() == lesson.context
    for block, start in enumerate(laid.starts.tolist()):
        branch = lesson.branches[int(laid.branches[start])]
        answer = laid.targets[block][laid.real[block]].tolist()
        assert answer == laid.rows[start : start + len(answer)].tolist()
        assert branch.finished or len(branch.answer) >= SIZE
        assert branch.finished or laid.real[block].all()
        assert set(laid.targets[block][~laid.real[block]].tolist()) <= {STOP}
        assert laid.positions[start] == len(lesson.context) + start - int((laid.branches < laid.branches[start]).sum())
    assert not laid.masked[:, 0].any() and laid.masked.any(1).all()
    assert torch.equal(laid.noised == MASK, laid.masked)
    assert torch.equal(laid.noised[~laid.masked], laid.targets[~laid.masked])
    assert (laid.weights[~laid.masked] == 0).all() and (laid.weights[laid.masked & laid.real] == 1).all()


def test_shares_of_noise() -> None:
    _, all_masked = packed(all_masked=1.0)
    assert all_masked.masked[:, 1:].all()
    _, from_left = packed(all_masked=0.0, from_left=1.0)
    assert all(torch.equal(row.sort().values, row) for row in from_left.masked.long())
    _, weighted = packed(kind_weights={"plain": 0.5}, all_masked=1.0)
    assert set(weighted.weights[weighted.kinds == 1][:, 1:].unique().tolist()) == {0.5}


@pytest.mark.parametrize("weight", [0.0, 0.7])
@pytest.mark.parametrize("rows", [1, 64, 150])
def test_fused_loss_equals_the_plain_one(rows: int, weight: float) -> None:
    torch.manual_seed(0)
    hidden, output = torch.randn(rows, 6, requires_grad=True), torch.randn(VOCABULARY, 6)
    targets, weights = torch.randint(VOCABULARY, (rows,)), torch.rand(rows)
    soft = torch.arange(0, rows, 2)
    teacher = torch.randn(len(soft), 6)
    found = output_losses(hidden, output, targets, weights, Taught(soft, teacher, weight))
    (found.loss * 3).backward()
    gradient, hidden.grad = hidden.grad, None

    logits = hidden @ output.T
    losses = F.cross_entropy(logits, targets, reduction="none")
    to_teacher = -((teacher @ output.T).softmax(-1) * logits[soft].log_softmax(-1)).sum(-1)
    mixed = losses.clone()
    mixed[soft] = weight * to_teacher + (1 - weight) * losses[soft]
    plain = (mixed * weights).sum()
    (plain * 3).backward()
    torch.testing.assert_close(found.loss, plain)
    torch.testing.assert_close(gradient, hidden.grad)
    assert torch.equal(found.top, logits.argmax(-1) == targets)
    torch.testing.assert_close(found.confidence, logits.log_softmax(-1).max(-1).values)


def test_outcome_equals_the_plain_loss() -> None:
    base = body()
    adapted, changes = adapt(base, 3, 6.0, 0)
    randomised(changes)  # type: ignore[arg-type]
    _, laid = packed(from_start=0.5)
    taught = laid.kinds == 1
    outcome = block_outcome(base, adapted, laid, taught, 0.7)
    total = weight = 0.0
    with torch.no_grad():
        clean = clean_rows(base, laid)
        logits = adapted.logits(block_hidden(adapted, laid, clean))
        for block, slot in (laid.weights > 0).nonzero().tolist():
            row = logits[block, slot - 1].log_softmax(-1)
            loss = -row[laid.targets[block, slot]]
            if taught[block] and laid.real[block, slot]:
                before = clean.hidden[laid.starts[block] + slot - 1]
                loss = 0.3 * loss - 0.7 * (base.logits(before).softmax(-1) * row).sum()
            total += float(loss * laid.weights[block, slot])
            weight += float(laid.weights[block, slot])
            assert outcome.right[block, slot] == (row.argmax() == laid.targets[block, slot])
    assert outcome.loss.item() == pytest.approx(total / weight, rel=1e-5)
    outcome.loss.backward()
    assert all(change.b.grad is not None for change in changes.values())
    assert all(weight.grad is None for weight in base.parameters())


def trainer(folder: Path, steps: int = 6) -> AdapterTrainer:
    return AdapterTrainer(
        base=body(),
        kinds=RandomLessons.kinds,
        stages=[LessonStage(0, RandomLessons())],
        packing=packing(),
        schedule=Cycles((Rise(steps, 3e-3, warmup=2),)),
        folder=folder,
        rank=2,
        alpha=2.0,
        save_every=3,
    )


def test_a_resumed_run_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole")
    whole.run(lambda progress: None)
    broken = trainer(tmp_path / "broken")
    for _ in range(3):
        broken.step()
    broken.save()
    broken.step()  # lost
    again = trainer(tmp_path / "broken")
    assert again.resume()
    again.run(lambda progress: None)
    assert again.progress == whole.progress
    for name, (a, b) in whole.adapter().factors.items():
        assert torch.equal(a, again.adapter().factors[name][0]) and torch.equal(b, again.adapter().factors[name][1])
        assert b.any()


def test_training_lowers_the_loss_and_leaves_the_base_alone(tmp_path: Path) -> None:
    run = trainer(tmp_path, steps=40)
    before = {name: weight.clone() for name, weight in run.base.state_dict().items()}
    drawn = RandomLessons().draw(np.random.default_rng(5))
    lesson = packing().pack(drawn, ("needle", "plain"), np.random.default_rng(6))
    run._pack = lambda rng: lesson  # type: ignore[method-assign]
    losses: list[float] = []
    run.run(lambda progress: losses.append(progress.loss))
    assert losses[-1] < 0.7 * losses[0]
    assert all(torch.equal(before[name], weight) for name, weight in run.base.state_dict().items())


def test_stages_follow_each_other(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.stages = [LessonStage(0, RandomLessons(3)), LessonStage(2, RandomLessons(13), all_masked=1.0)]
    packed_lessons = []
    for _ in range(4):
        packed_lessons.append(run._pack(np.random.default_rng(0)))
        run.step()
    assert [len(lesson.context) for lesson in packed_lessons] == [3, 3, 13, 13]
    assert [bool(lesson.masked[:, 1:].all()) for lesson in packed_lessons] == [False, False, True, True]


def test_rise() -> None:
    rise = Rise(100, 2.0, warmup=10, decay_share=0.2)
    assert [rise.rate(step) for step in (0, 9, 50, 80, 90, 99)] == pytest.approx([0.2, 2.0, 2.0, 2.0, 1.0, 0.1])
    cycles = Cycles((rise, Rise(10, 1.0, warmup=1, decay_share=1.0)))
    assert cycles.steps == 110
    assert [cycles.rate(step) for step in (9, 99, 100, 105, 110)] == pytest.approx([2.0, 0.1, 1.0, 0.5, 0.0])
