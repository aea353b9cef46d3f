"""The questions of a cell: examples of its task and their prompts, in tokens."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from mage.errors import UserError
from mage.models.checkpoint import LanguageModel
from runners.cell import Cell
from tasks.errors import TaskError
from tasks.task import Example, Prompt, Tokenizer

LOST_WORDS = 0.05  # share of the words of a context above which a tokenizer does not know its language


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
        _check_language(cell, model.tokenizer, examples[0].context)
        prompts = [cell.task.prompt(example, model.tokenizer, size, model.max_positions) for example in examples]
        if model.spec.causal:  # the prompt's tail is prefilled too
            prompts = [replace(p, question_tokens_prefilled=len(p.tokens) - p.question_start) for p in prompts]
        return [Question(*pair) for pair in zip(examples, prompts, strict=True)]
    except TaskError as error:
        raise UserError(str(error)) from error


def stop_ids(example: Example, tokenizer: Tokenizer) -> list[int]:
    """Return the ids that end an answer besides the model's own: the last of each text (LongBench, pred.py)."""
    return [tokenizer.encode(text)[-1] for text in example.stop_texts]


def _check_language(cell: Cell, tokenizer: Tokenizer, context: str) -> None:
    """Raise `UserError` when too many words of `context` do not come back from the tokenizer.

    A word comes back when its own tokens spell it, spaces and case apart.
    """
    words = Counter(context.split())
    lost = sum(count for word, count in words.items() if not _comes_back(word, tokenizer))
    if lost > LOST_WORDS * words.total():
        language = cell.config["task"].get("language")
        field = f"task={cell.labels.task}" if language is None else f"task.language={language}"
        raise UserError(
            f"{field}: the tokenizer of model={cell.labels.model} does not know {lost} of the {words.total()} words "
            "of the first context. Choose a language that the model was trained on."
        )


def _comes_back(word: str, tokenizer: Tokenizer) -> bool:
    return "".join(tokenizer.decode(tokenizer.encode(word)).split()).casefold() == word.casefold()
