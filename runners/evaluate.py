"""runner=evaluate: generate an answer to every example, score it, and count what it took."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pydantic import BaseModel

from mage.errors import UserError
from mage.generation.trace import KINDS
from runners.record import ExampleResult
from runners.runner import CellRunner

if TYPE_CHECKING:
    from mage.generation.prefill import Prefix
    from mage.generation.session import Generation
    from mage.models.checkpoint import LanguageModel
    from mage.models.config import BodyConfig
    from mage.models.diffusion import DiffusionSpec
    from runners.cell import Cell
    from runners.material import Question
    from runners.sweeping.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class Evaluate(CellRunner):
    """Accuracy under a budget. `batch_size` consecutive examples are generated together.

    likelihood: also how likely the model's body, read autoregressively over the dense prefix, finds each answer. Needs
        a causal prefix. It is measured after the answer and counts in no time.
    """

    row_type: ClassVar[type[BaseModel]] = ExampleResult
    needs_reference: ClassVar[bool] = True
    headline: ClassVar[str] = "score"
    columns: ClassVar[dict[str, str]] = {
        "score": "score",
        "exact_match": "exact",
        "density": "density",
        "sparse_token_share": "sparse tok",
        "forwards_per_block": "fwd/block",
        "fused_forwards_per_block": "fused",
        "decode_seconds": "decode s",
    }

    batch_size: int = 1
    likelihood: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 1:
            raise UserError(f"runner.batch_size={self.batch_size} is out of range. Allowed: an integer >= 1.")

    @property
    def group_size(self) -> int:
        return self.batch_size

    def check(self, spec: DiffusionSpec, body: BodyConfig, *, fuse_commit: bool = False) -> None:
        """See CellRunner."""
        from mage.generation.likelihood import check_likelihood  # brings torch

        if self.likelihood:
            check_likelihood(spec)

    def compute(self, cell: Cell, bench: Workbench, questions: Sequence[Question]) -> list[BaseModel]:
        from mage.generation.engine import Engine  # brings torch, which a refused config need not wait for
        from runners.material import stop_ids

        model = bench.model(cell)
        engine = Engine(
            model,
            cell.method,
            cell.decoding,
            attention=cell.attention,
            capture=cell.settings.capture,
            fuse_commit=cell.settings.fuse_commit,
        )
        prefix = bench.prefix(engine, questions)
        generations = engine.generate(
            prefix,
            cell.budget,
            example_ids=[question.example.id for question in questions],
            question_starts=[question.prompt.question_start for question in questions],
            stop_ids=[stop_ids(question.example, model.tokenizer) for question in questions],
            seed=cell.settings.seed,
        )
        told = self._likelihoods(model, prefix, generations)
        assert cell.task is not None  # this runner uses one
        rows: list[BaseModel] = []
        for question, generation, length, likelihood in zip(questions, generations, prefix.lengths, told, strict=True):
            example, prompt, trace = question.example, question.prompt, generation.trace
            prediction = model.tokenizer.decode(generation.tokens)
            score = cell.task.score(example, prediction)
            rows.append(
                ExampleResult(
                    id=example.id,
                    score=score.value,
                    exact=score.exact,
                    prediction=prediction,
                    references=list(example.references),
                    labels=dict(example.labels),
                    prompt_tokens=len(prompt.tokens),
                    prefix_tokens=length,
                    truncated_tokens=prompt.truncated_tokens,
                    question_tokens_prefilled=prompt.question_tokens_prefilled,
                    generated_tokens=len(generation.tokens),
                    blocks=len(trace.blocks),
                    budget_tokens=trace.budget_tokens,
                    forwards=trace.forwards,
                    seconds=trace.seconds,
                    tokens_decided=trace.tokens_decided,
                    density=trace.density,
                    sparse_blocks=trace.sparse_blocks,
                    shared_tokens=min(question.shared_tokens, prefix.shared),
                    **likelihood,
                )
            )
        return rows

    def _likelihoods(
        self, model: LanguageModel, prefix: Prefix, generations: Sequence[Generation]
    ) -> list[dict[str, Any]]:
        """Return the fields of each row that only runner.likelihood=true fills."""
        from mage.generation.likelihood import answer_nll

        if not self.likelihood:
            return [{} for _ in generations]
        stops = [[] if g.stop_token is None else [g.stop_token] for g in generations]
        answers = [[*g.tokens, *stop] for g, stop in zip(generations, stops, strict=True)]
        values = answer_nll(model, prefix, answers)
        return [{"answer_nll": v, "answer_nll_tokens": len(a)} for v, a in zip(values, answers, strict=True)]

    def summarise(self, rows: Sequence[BaseModel]) -> dict[str, float]:
        return summarise(cast("Sequence[ExampleResult]", rows))


def summarise(rows: Sequence[ExampleResult]) -> dict[str, float]:
    """Return the metrics of a cell. Means are over examples; what is per block or per forward is a ratio of sums.

    `tokens_per_second` counts generated tokens up to the stop token over decoding seconds, prefill apart.
    `sparse_token_share` is the share of output tokens that sparse steps decided. `answer_perplexity`, where likelihood
    was measured: of all answers under the body read autoregressively, a token weighing like any other.
    """

    def mean(values: Sequence[Any]) -> float:
        return sum(values) / len(rows)

    def ratio(part: float, whole: float) -> float:
        return part / whole if whole else 0.0

    forwards = {kind: sum(row.forwards.get(kind, 0) for row in rows) for kind in KINDS}
    kinds = ("prefill", "exact", "fused", "selection", "sparse", "commit")
    seconds = {kind: mean([row.seconds.get(kind, 0.0) for row in rows]) for kind in kinds}
    decided = sum(sum(row.tokens_decided.values()) for row in rows)
    blocks, total = sum(row.blocks for row in rows), sum(forwards.values())
    generated = sum(row.generated_tokens for row in rows)
    decode = sum(seconds.values()) - seconds["prefill"]
    return {
        "score": mean([row.score for row in rows]),
        "exact_match": mean([row.exact for row in rows]),
        "examples": float(len(rows)),
        "density": mean([row.density for row in rows]),
        "sparse_token_share": ratio(sum(row.tokens_decided["sparse"] for row in rows), decided),
        "forwards_per_block": ratio(total, blocks),
        **{f"{kind}_forwards_per_block": ratio(count, blocks) for kind, count in forwards.items()},
        "tokens_per_forward": ratio(generated, total),
        "tokens_per_second": ratio(generated, decode * len(rows)),
        **{f"seconds_{kind}": value for kind, value in seconds.items()},
        "decode_seconds": decode,
        "sparse_block_share": ratio(sum(row.sparse_blocks for row in rows), blocks),
        "generated_tokens": float(generated),
        "truncated_examples": float(sum(row.truncated_tokens > 0 for row in rows)),
        **_perplexity(rows),
    }


def _perplexity(rows: Sequence[ExampleResult]) -> dict[str, float]:
    """Return exp of the mean nats a token of all answers; nothing where it was not measured."""
    measured = [(row.answer_nll, row.answer_nll_tokens) for row in rows]
    nats, tokens = (sum(value for value in values if value is not None) for values in zip(*measured))
    return {"answer_perplexity": math.exp(nats / tokens)} if tokens else {}
