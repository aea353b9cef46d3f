"""What the cells of a group share in one process: the loaded body, the questions, the prefilled prompt."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress

import torch

from mage.generation.engine import Engine
from mage.generation.prefill import Prefix
from mage.models.checkpoint import LanguageModel, check_ids, load_model
from mage.models.transformer import Transformer
from mage.timing.memory import PeakMemory
from runners.cell import Cell
from runners.feasibility import diffusion_spec
from runners.material import Question, make_questions
from runners.sweeping.limits import apart
from runners.sweeping.prefixes import HeldPrefix


class Workbench:
    """Holds one body, the ways in which the cells of a group write blocks with it, and one example's prefix.

    `shared_seconds`: wall time so far of what cells share, loading and prefills. `prefill_peak_bytes`: the most memory
    that the prefill of the prefix at hand took.
    """

    def __init__(self) -> None:
        self._weights_key: Hashable = None
        self._body: Transformer | None = None
        self._models: dict[Hashable, LanguageModel] = {}
        self._adapted: dict[Hashable, Transformer | None] = {}
        self._questions: dict[Hashable, list[Question]] = {}
        self._threads = torch.get_num_threads()  # torch's own choice
        self._scope: Hashable = None
        self._common, self._own = HeldPrefix(), HeldPrefix()
        self.shared_seconds = self.prefill_peak_bytes = 0.0

    def begin(self, group: Sequence[Cell]) -> None:
        """Begin a group: what only cells of earlier groups used is dropped."""
        models, prompts = {cell.model_key for cell in group}, {cell.prompts_key for cell in group}
        adapters = {_adapter_key(cell) for cell in group}
        self._models = {key: model for key, model in self._models.items() if key in models}
        self._adapted = {key: body for key, body in self._adapted.items() if key in adapters}
        self._questions = {key: found for key, found in self._questions.items() if key in prompts}
        if group[0].prefix_key != self._scope:
            self._forget_prefixes()
        self._scope = group[0].prefix_key

    def model(self, cell: Cell) -> LanguageModel:
        """Return the cell's model, loaded when the cell before had other weights. Raises whatever loading may raise."""
        if cell.weights_key != self._weights_key:
            self._body = None  # two bodies need not fit into memory together
            self._models.clear()
            self._adapted.clear()
            self._forget_prefixes()
        if self._body is None:
            with self._shared():
                self._load(cell)
        elif cell.model_key not in self._models:
            self._models[cell.model_key] = self._rewritten(self._body, cell)
        return self._models[cell.model_key]

    def _load(self, cell: Cell) -> None:
        wanted, checkpoint = cell.settings.model, cell.checkpoint
        torch.set_num_threads(wanted.threads or self._threads)
        model = load_model(
            checkpoint.source,
            diffusion_spec(wanted),
            device=wanted.device,
            dtype=wanted.dtype,
            body=checkpoint.config,
            tokenizer=checkpoint.tokenizer,
            adapter=checkpoint.adapter,
        )
        self._models[cell.model_key], self._body, self._weights_key = model, model.body, cell.weights_key
        self._adapted[_adapter_key(cell)] = model.adapted

    def _rewritten(self, body: Transformer, cell: Cell) -> LanguageModel:
        """The same body, with the cell's way of writing blocks: block size, adapter, and so on."""
        spec, adapter, key = diffusion_spec(cell.settings.model), cell.checkpoint.adapter, _adapter_key(cell)
        check_ids(spec, body.config)
        if key not in self._adapted:
            self._adapted[key] = None if adapter is None else adapter.merged_into(body, spec.mask_id)
        return LanguageModel(body, spec, cell.checkpoint.tokenizer, self._adapted[key])

    def questions(self, cell: Cell) -> list[Question]:
        """Return the cell's questions. Raises `UserError`."""
        if cell.prompts_key not in self._questions:
            self._questions[cell.prompts_key] = make_questions(cell, self.model(cell))
        return self._questions[cell.prompts_key]

    def kept(self, key: Hashable, compute: Callable[[], Prefix]) -> Prefix:
        """Return a prefix that a runner without a task made for `key`, computed when it is not the one at hand."""
        return self._own.get(key, self._timed(compute))

    def prefix(self, engine: Engine, questions: Sequence[Question]) -> Prefix:
        """Return the prefilled prompts of a group of questions.

        A causal prompt that stands alone in its group is prefilled in parts, and what it shares with other questions,
        or else all of it, is kept without room for an answer: it serves every block size.
        """
        prompts = [question.prompt.tokens for question in questions]
        limits = [question.example.max_new_tokens for question in questions]
        key = (engine.model.spec.block_size, *map(tuple, prompts), *limits)
        alone = engine.model.spec.causal and len(questions) == 1

        def compute() -> Prefix:
            return self._continued(engine, questions[0]) if alone else engine.prefill(prompts, limits)

        return self._own.get(key, self._timed(compute))

    def _continued(self, engine: Engine, question: Question) -> Prefix:
        """Prefill what is the question's own. The seconds of a shared part are split evenly over those who share it."""
        tokens = question.prompt.tokens
        shared = tokens[: question.shared_tokens or len(tokens)]
        common = self._common.get(tuple(shared), lambda: engine.prefill_common(shared))
        prefix = engine.prefill([tokens], [question.example.max_new_tokens], common=common)
        prefix.seconds += common.seconds / question.sharers
        return prefix

    def _timed(self, compute: Callable[[], Prefix]) -> Callable[[], Prefix]:
        """Return `compute`, such that what it takes is counted."""

        def counted() -> Prefix:
            memory = PeakMemory(next(iter(self._models.values())).device)
            with self._shared():
                prefix = compute()
            self.prefill_peak_bytes = memory.read()
            return prefix

        return counted

    @contextmanager
    def _shared(self) -> Iterator[None]:
        """Do what cells share: its time is nobody's own."""
        began = time.monotonic()
        try:
            with apart():
                yield
        finally:
            self.shared_seconds += time.monotonic() - began

    def _forget_prefixes(self) -> None:
        self._common.drop()
        self._own.drop()

    def recover(self) -> None:
        """Give memory back, after a cell that may have run out of it: what its error still holds, too."""
        self._forget_prefixes()
        gc.collect()
        if torch.cuda.is_available():
            with suppress(RuntimeError):  # a device that failed for good says so to the next cell
                torch.cuda.empty_cache()


def _adapter_key(cell: Cell) -> tuple[str, int]:
    """Cells with the same key fill blocks with the same changed body."""
    return cell.checkpoint.content_hash, cell.settings.model.mask_id
