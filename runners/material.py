"""The questions of a cell: examples of its task and their prompts, in tokens."""

from __future__ import annotations

from dataclasses import dataclass

from mage.errors import UserError
from mage.models.checkpoint import LanguageModel
from runners.cell import Cell
from tasks.errors import TaskError
from tasks.prompt import Prompt, assemble
from tasks.task import Example


@dataclass(frozen=True)
class Question:
    """An example and the prompt made of it."""

    example: Example
    prompt: Prompt


def make_questions(cell: Cell, model: LanguageModel) -> list[Question]:
    """Make the cell's examples and prompts. Raises `UserError` for what the task or the model cannot serve."""
    size, settings = model.spec.block_size, cell.settings
    try:
        examples = cell.task.examples(model.tokenizer, settings.examples, settings.seed, size)
        return [
            Question(example, assemble(example, model.tokenizer, size, cell.task.question, model.max_positions))
            for example in examples
        ]
    except TaskError as error:
        raise UserError(str(error)) from error
