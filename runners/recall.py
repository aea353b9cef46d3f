"""runner=recall: what a method's selection knows of the exact attention of each denoising step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from pydantic import BaseModel

from runners.record import RecallResult
from runners.runner import CellRunner
from tasks.evidence import evidence_positions
from tasks.task import CONTEXT

if TYPE_CHECKING:
    from mage.method import Method
    from runners.cell import Cell
    from runners.material import Question
    from runners.sweeping.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class Recall(CellRunner):
    """The method selects as it would, while attention stays exact: all methods are measured on the same blocks."""

    row_type: ClassVar[type[BaseModel]] = RecallResult
    headline: ClassVar[str] = "recall"
    columns: ClassVar[dict[str, str]] = {
        "recall": "recall",
        "mass_captured": "mass captured",
        "oracle_mass": "oracle mass",
        "evidence_share": "evidence held",
        "examples": "examples",
    }

    def refusal(self, method: Method) -> str | None:
        one_set = method.uses_budget and method.one_set_per_kv_head
        return None if one_set else "runner=recall needs a method that selects one set per KV head"

    def compute(self, cell: Cell, bench: Workbench, questions: Sequence[Question]) -> list[BaseModel]:
        from mage.generation.engine import Engine  # brings torch, which a refused config need not wait for
        from mage.generation.recall import RecallObserver
        from runners.material import stop_ids

        (question,) = questions
        evidence = evidence_positions(question.example, question.prompt, bench.model(cell).tokenizer)
        observer = RecallObserver(evidence)
        engine = Engine(
            bench.model(cell),
            cell.method,
            cell.decoding,
            shadow=True,
            observer=observer,
            attention=cell.attention,
            capture=cell.settings.capture,
            fuse_commit=cell.settings.fuse_commit,
        )
        prefix = bench.prefix(engine, questions)
        (generation,) = engine.generate(
            prefix,
            cell.budget,
            example_ids=[question.example.id],
            question_starts=[question.prompt.question_start],
            stop_ids=[stop_ids(question.example, bench.model(cell).tokenizer)],
            seed=cell.settings.seed,
        )
        assert generation.trace.budget_tokens is not None
        return [
            RecallResult(
                id=question.example.id,
                context=None if (name := question.example.labels.get(CONTEXT)) is None else str(name),
                prefix_tokens=prefix.lengths[0],
                budget_tokens=generation.trace.budget_tokens,
                evidence_tokens=len(evidence),
                rows=observer.rows,
            )
        ]

    def summarise(self, rows: Sequence[BaseModel]) -> dict[str, float]:
        results = cast("Sequence[RecallResult]", rows)
        found = [row for result in results for row in result.rows]
        names = ("recall", "mass_captured", "oracle_mass")
        means = {name: sum(getattr(row, name) for row in found) / len(found) for name in names} if found else {}
        shares = [share for result in results if (share := _evidence_share(result)) is not None]
        if shares:
            means["evidence_share"] = sum(shares) / len(shares)
        return {"examples": float(len(results)), **means}


def _evidence_share(result: RecallResult) -> float | None:
    """Of the attention on the evidence, the share on entries of the attended set; None where there was none on it."""
    told = [(row.evidence_held or 0.0, row.evidence_mass) for row in result.rows if row.evidence_mass]
    return sum(held for held, _ in told) / sum(mass for _, mass in told) if told else None
