"""Generation on held-out examples while a model trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runners.building import build
from tasks.task import Task

if TYPE_CHECKING:
    from mage.budget import Budget
    from mage.generation.engine import Engine
    from mage.method import Method
    from mage.models.checkpoint import LanguageModel


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Every `every` steps and at the end, `examples` for each of `tasks`.

    decoding: a section like conf/decoding; tasks: sections like conf/task, by the name they are shown with.
    """

    every: int
    examples: int
    decoding: dict[str, Any]
    tasks: dict[str, dict[str, Any]]


class Exam:
    """The tasks of an evaluation, built. `UserError` for those that cannot be."""

    def __init__(self, wanted: Evaluation) -> None:
        self._examples = wanted.examples
        self._tasks = {name: build(f"runner.evaluation.tasks.{name}", task) for name, task in wanted.tasks.items()}
        self._decoding = build("runner.evaluation.decoding", wanted.decoding)

    def take(self, model: LanguageModel, methods: Mapping[str, tuple[Method, Budget | None]]) -> dict[str, float]:
        """Return the exact match of each task under each method, by the task's name and the method's behind it."""
        from mage.generation.engine import Engine

        found = {}
        for name, task in self._tasks.items():
            for label, (method, budget) in methods.items():
                engine = Engine(model, method, self._decoding)
                found[f"{name} {label}".strip()] = exact_match(engine, task, self._examples, budget)
        return found


def exact_match(engine: Engine, task: Task, count: int, budget: Budget | None = None) -> float:
    """Return the share of `count` examples that the model answers exactly."""
    model = engine.model
    size, right = model.spec.block_size, 0
    for example in task.examples(model.tokenizer, count, seed=1, block_size=size):
        prompt = task.prompt(example, model.tokenizer, size, model.max_positions)
        prefix = engine.prefill([prompt.tokens], [example.max_new_tokens])
        answer = engine.generate(prefix, budget, example_ids=[example.id])[0]
        right += task.score(example, model.tokenizer.decode(answer.tokens)).exact
    return right / count
