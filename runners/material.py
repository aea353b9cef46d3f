"""The questions of a cell: examples of its task and their prompts, in tokens."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import Protocol

from mage.errors import UserError
from mage.models.diffusion import DiffusionSpec
from runners.cell import Cell
from tasks.errors import TaskError
from tasks.task import CONTEXT, Example, Label, Prompt, Tokenizer

LOST_WORDS = 0.05  # share of the words of a context above which a tokenizer does not know its language


@dataclass(frozen=True)
class Question:
    """An example and the prompt made of it.

    Of a causal model, questions about one context share the prefill of the first `shared_tokens`; `sharers` are as
    many, this one included.
    """

    example: Example
    prompt: Prompt
    shared_tokens: int = 0
    sharers: int = 1


class Reader(Protocol):
    """What of a model its prompts depend on."""

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def spec(self) -> DiffusionSpec: ...

    @property
    def max_positions(self) -> int: ...


def make_questions(cell: Cell, model: Reader, first: int | None = None) -> list[Question]:
    """Make the cell's examples and prompts. Raises `UserError` for what the task or the model cannot serve.

    first: only so many of them, as they are among all.
    """
    size, settings, task = model.spec.block_size, cell.settings, cell.task
    assert task is not None  # a runner without one has questions of its own
    count = settings.examples if first is None else min(settings.examples or first, first)
    try:
        examples = task.examples(model.tokenizer, count, settings.seed, size)
        _check_language(cell, model.tokenizer, examples[0].context)
        prompts = [task.prompt(example, model.tokenizer, size, model.max_positions) for example in examples]
        if model.spec.causal:  # the prompt's tail is prefilled too
            prompts = [replace(p, question_tokens_prefilled=len(p.tokens) - p.question_start) for p in prompts]
        questions = [Question(*pair) for pair in zip(examples, prompts, strict=True)]
        return _sharing(questions) if model.spec.causal else questions
    except TaskError as error:
        raise UserError(str(error)) from error


def _sharing(questions: list[Question]) -> list[Question]:
    """Where examples name their contexts, say how much of its prompt each shares with the others of its context.

    That ends at the question at the latest, so that it does not depend on how many of a context's questions a cell has:
    answers are those of another count to the last bit.
    """
    if any(CONTEXT not in question.example.labels for question in questions):
        return questions
    contexts: dict[Label, list[Prompt]] = defaultdict(list)
    for question in questions:
        contexts[question.example.labels[CONTEXT]].append(question.prompt)
    common = {name: _common_tokens(prompts) for name, prompts in contexts.items()}
    return [
        replace(question, shared_tokens=common[name], sharers=len(contexts[name]))
        for question in questions
        for name in [question.example.labels[CONTEXT]]
    ]


def _common_tokens(prompts: list[Prompt]) -> int:
    """How many tokens all prompts begin with, before the question of any."""
    end = min(prompt.question_start for prompt in prompts)
    lowest, highest = (extreme(prompt.tokens[:end] for prompt in prompts) for extreme in (min, max))
    return next((i for i, (a, b) in enumerate(zip(lowest, highest)) if a != b), end)


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
