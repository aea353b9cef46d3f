"""The recall observer on methods whose recall is known."""

from __future__ import annotations

from baselines.oracle import Oracle
from baselines.streaming_llm import StreamingLLM
from mage.budget import Budget
from mage.generation.decoding import Static
from mage.generation.engine import Engine
from mage.generation.recall import RecallObserver, RecallRow
from mage.mage import Mage
from mage.method import Method
from mage.models.checkpoint import LanguageModel
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
