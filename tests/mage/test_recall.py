"""The recall observer on methods whose recall is known."""

from __future__ import annotations

import pytest
import torch

from baselines.oracle import Oracle
from baselines.streaming_llm import StreamingLLM
from mage.budget import Budget
from mage.generation.decoding import Static
from mage.generation.engine import Engine
from mage.generation.recall import RecallObserver, RecallRow
from mage.mage import Mage
from mage.method import Method
from mage.models.checkpoint import LanguageModel
from mage.view import View
from tests.conftest import prompt


def rows_of(model: LanguageModel, method: Method) -> list[RecallRow]:
    observer = RecallObserver()
    engine = Engine(model, method, Static(), observer=observer, shadow=True)
    engine.generate(engine.prefill([prompt(64, seed=5)], [16]), Budget(12))
    return observer.rows


def test_the_oracle_recalls_everything(model: LanguageModel) -> None:
    rows = rows_of(model, Oracle())
    assert rows and all(row.recall == 1.0 for row in rows)
    assert all(abs(row.mass_captured - 1.0) < 1e-5 and 0.0 < row.oracle_mass < 1.0 for row in rows)


def test_mage_lies_between_a_fixed_window_and_the_oracle(model: LanguageModel) -> None:
    rows, window = rows_of(model, Mage(dense_layers=1)), rows_of(model, StreamingLLM(dense_layers=1))
    assert {row.layer for row in rows} == {1, 2}
    assert min(row.step for row in rows) == 2, "the exact first step attends to no set"

    def mean(values: list[RecallRow]) -> float:
        return sum(row.mass_captured for row in values) / len(values)

    assert mean(window) < mean(rows) < 1.0


def test_evidence_is_told_apart(model: LanguageModel) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    class Beside(RecallObserver):
        def __call__(self, view: View, indices: torch.Tensor | None) -> None:
            super().__call__(view, indices)
            if indices is not None:
                seen.append((view.mass()[0, :, : view.lengths[0]], indices[0]))

    evidence = [3, 9, 40, 63]
    observer = Beside(evidence)
    engine = Engine(model, Mage(dense_layers=1), Static(), observer=observer, shadow=True)
    engine.generate(engine.prefill([prompt(64, seed=5)], [16]), Budget(12))
    assert len(seen) == len(observer.rows) > 0
    for row, (mass, indices) in zip(observer.rows, seen, strict=True):
        heads = range(len(mass))
        held = [sum(float(mass[h, i]) for i in evidence if i in indices[h].tolist()) for h in heads]
        best = [sum(float(mass[h, i]) for i in evidence if i in mass[h].topk(12).indices.tolist()) for h in heads]
        assert row.evidence_mass == pytest.approx(float(mass[:, evidence].sum(1).mean()))
        assert row.evidence_held == pytest.approx(sum(held) / len(held))
        assert row.evidence_oracle == pytest.approx(sum(best) / len(best))
    assert len({row.evidence_held for row in observer.rows}) > 2


def test_without_evidence_in_the_prefix_nothing_is_told_of_it(model: LanguageModel) -> None:
    for evidence in ([], [500]):
        observer = RecallObserver(evidence)
        engine = Engine(model, Oracle(), Static(), observer=observer, shadow=True)
        engine.generate(engine.prefill([prompt(64, seed=5)], [16]), Budget(12))
        assert {(row.evidence_mass, row.evidence_held, row.evidence_oracle) for row in observer.rows} == {(None,) * 3}
