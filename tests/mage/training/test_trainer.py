"""The loop: a resumed run equals an undisturbed one, stages follow each other, weights that are frozen stay."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mage.errors import UserError
from mage.models.families.registry import body_config
from mage.models.transformer import Transformer
from mage.training.initialisation import CONSTANT, Structure
from mage.training.muon import orthogonalise
from mage.training.noise import AnswerNoise
from mage.training.schedule import Shape, Stage
from mage.training.trainer import Progress, Trainer
from tasks.tiny_batches import TinyBatches
from tests.conftest import CONFIG

STAGES = (
    Stage((Shape(64, 2, 2),), steps=4, warmup=3),
    Stage((Shape(64, 2, 2), Shape(128, 1, 2)), steps=6, decay_share=0.5, max_positions=600),
)


def _trainer(folder: Path, hidden: int = 32, stages: tuple[Stage, ...] = STAGES, save_every: int = 5) -> Trainer:
    config = body_config(
        CONFIG
        | {
            "vocab_size": 600,
            "hidden_size": hidden,
            "intermediate_size": 32,
            "max_position_embeddings": 1024,
            "rope_theta": 1e6,
        }
    )
    body, structure = Transformer(config), Structure(source_width=4)
    structure.initialise(body, torch.Generator().manual_seed(0))
    return Trainer(
        body=body,
        structure=structure,
        source=TinyBatches(),
        noise=AnswerNoise(mask_id=1),
        stages=stages,
        folder=folder,
        block_size=32,
        save_every=save_every,
    )


def _ignore(progress: Progress) -> None:
    pass


def test_resumed_run_equals_an_undisturbed_one(tmp_path: Path) -> None:
    whole = _trainer(tmp_path / "whole")
    whole.run(_ignore)

    class KilledError(Exception):
        pass

    def kill(progress: Progress) -> None:
        if progress.step == 7:
            raise KilledError

    with pytest.raises(KilledError):
        _trainer(tmp_path / "cut").run(kill)
    rest = _trainer(tmp_path / "cut")
    assert rest.resume()
    assert rest.progress.step == 5  # the last state before the kill
    rest.run(_ignore)
    assert rest.progress == whole.progress
    for (name, got), wanted in zip(rest.body.named_parameters(), whole.body.parameters()):
        assert torch.equal(got, wanted), name


def test_state_of_another_model_is_refused(tmp_path: Path) -> None:
    _trainer(tmp_path).save()
    with pytest.raises(UserError, match="does not fit this model"):
        _trainer(tmp_path, hidden=48).resume()


def test_frozen_weights_stay_and_the_others_move(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path)
    before = {name: weight.detach().clone() for name, weight in trainer.body.named_parameters()}
    trainer.run(_ignore)
    frozen = trainer.structure.frozen()
    assert frozen <= set(before)
    for name, weight in trainer.body.named_parameters():
        assert torch.equal(weight, before[name]) == (name in frozen), name
    assert torch.equal(trainer.body.model.embed_tokens.weight[:, CONSTANT], torch.full((600,), 3.0))
    assert not trainer.body.model.layers[0].mlp.down_proj.weight[CONSTANT].any()


def test_loss_falls(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, stages=(Stage((Shape(64, 2, 4),), steps=25, warmup=5),), save_every=100)
    losses: list[float] = []
    trainer.run(lambda progress: losses.append(progress.loss))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_stage_rates() -> None:
    stage = Stage((Shape(64, 1, 1),), steps=100, warmup=10, decay_share=0.2)
    assert stage.rate(0) == pytest.approx(0.1)
    assert stage.rate(50) == 1.0
    assert stage.rate(90) == pytest.approx(0.5)
    assert stage.rate(99) == pytest.approx(0.05)


@pytest.mark.parametrize("shape", [(24, 8), (8, 24), (16, 16)])
def test_orthogonalised_matrix_keeps_directions(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    values = torch.diagonal(left.T @ orthogonalise(matrix).float() @ right.T)
    assert values.min() > 0.5
    assert values.max() < 1.3
