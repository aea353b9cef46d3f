"""What the cells of a sweep share in one process: the loaded model, the questions, the prefilled prompts."""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress

import torch

from mage.generation.engine import Engine
from mage.generation.prefill import Prefix
from mage.models.checkpoint import LanguageModel, check_ids, load_model
from runners.cell import Cell
from runners.feasibility import diffusion_spec
from runners.material import Question, make_questions
from runners.prefixes import PrefixCache


class Workbench:
    """Holds one model, one set of questions and their prefixes at a time: cells come in an order that shares them."""

    def __init__(self) -> None:
        self._model_key: tuple[object, ...] = ()
        self._weights_key: tuple[object, ...] = ()
        self._model: LanguageModel | None = None
        self._threads = torch.get_num_threads()  # torch's own choice
        self._questions_key: tuple[object, ...] = ()
        self._questions: list[Question] = []
        self._prefixes = PrefixCache(0)

    def model(self, cell: Cell) -> LanguageModel:
        """Return the cell's model, loaded when the last cell had other weights. Raises whatever loading may raise."""
        if self._model is None or cell.model_key != self._model_key:
            if self._model is not None and cell.weights_key == self._weights_key:
                self._model = _rewritten(self._model, cell)
                self._model_key = cell.model_key
                return self._model
            if self._model is not None:  # two models need not fit into memory together
                self._model = None
                self.drop_prefixes()
            wanted, checkpoint = cell.settings.model, cell.checkpoint
            torch.set_num_threads(wanted.threads or self._threads)
            self._model = load_model(
                checkpoint.source,
                diffusion_spec(wanted),
                device=wanted.device,
                dtype=wanted.dtype,
                body=checkpoint.config,
                tokenizer=checkpoint.tokenizer,
                adapter=checkpoint.adapter,
            )
            self._model_key, self._weights_key = cell.model_key, cell.weights_key
        return self._model

    def questions(self, cell: Cell) -> list[Question]:
        """Return the cell's questions, and make its prefixes the ones that are kept. Raises `UserError`."""
        model = self.model(cell)
        key = cell.prompts_key
        if key != self._questions_key:
            self._questions, self._questions_key = make_questions(cell, model), key
        self._enter(cell)
        return self._questions

    def kept(self, cell: Cell, key: Hashable, compute: Callable[[], Prefix]) -> Prefix:
        """Return a prefix that a runner without a task made for `key`, computed when no cell before had the same."""
        self._enter(cell)
        return self._prefixes.get(key, compute)

    def _enter(self, cell: Cell) -> None:
        """Make the cell's prefixes the ones that are kept."""
        self._prefixes.limit_bytes = int(cell.runner.prefix_cache_gib * 2**30)
        self._prefixes.enter(cell.prefix_key)

    def prefix(self, engine: Engine, questions: Sequence[Question]) -> Prefix:
        """Return the prefilled prompts of a group of questions.

        A causal prompt that stands alone in its group is prefilled in parts, and what it shares with other questions,
        or else all of it, is kept without room for an answer: it serves every block size.
        """
        prompts = [question.prompt.tokens for question in questions]
        limits = [question.example.max_new_tokens for question in questions]
        if engine.model.spec.causal and len(questions) == 1:
            return self._continued(engine, questions[0])
        key = (engine.model.spec.block_size, *(question.example.id for question in questions))
        return self._prefixes.get(key, lambda: engine.prefill(prompts, limits))

    def _continued(self, engine: Engine, question: Question) -> Prefix:
        """Prefill what is the question's own. The seconds of a shared part are split evenly over those who share it."""
        tokens = question.prompt.tokens
        shared = tokens[: question.shared_tokens or len(tokens)]
        key = tuple(shared)
        common = self._prefixes.get(key, lambda: engine.prefill_common(shared), at_once=question.sharers > 1)
        prefix = engine.prefill([tokens], [question.example.max_new_tokens], common=common)
        prefix.seconds += common.seconds / (question.sharers if self._prefixes.holds(key) else 1)
        return prefix

    def drop_prefixes(self) -> None:
        """Give memory back, after a cell that ran out of it."""
        self._prefixes.clear()
        gc.collect()
        if torch.cuda.is_available():
            with suppress(RuntimeError):  # a device that failed for good says so to the next cell
                torch.cuda.empty_cache()


def _rewritten(model: LanguageModel, cell: Cell) -> LanguageModel:
    """The same body, with the cell's way of writing blocks: block size, adapter, and so on."""
    spec, checkpoint = diffusion_spec(cell.settings.model), cell.checkpoint
    check_ids(spec, model.body.config)
    adapter = checkpoint.adapter
    adapted = None if adapter is None else adapter.merged_into(model.body, spec.mask_id)
    return LanguageModel(model.body, spec, checkpoint.tokenizer, adapted)
