"""What refuses a cell before a sweep starts although its config is valid: the checkpoint, this machine."""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import lru_cache

import torch

from baselines.dense import Dense
from mage.budget import Budget
from mage.errors import UserError, unknown_choice
from mage.generation.fusing import check_fusing
from mage.models.checkpoint import DTYPES, check_ids
from mage.models.diffusion import DiffusionSpec
from mage.models.tokenizer import Tokenizer
from runners.cell import Cell
from runners.material import Question, make_questions
from runners.settings import ModelSettings
from runners.writing import nearest
from tasks.generated import GeneratedTask
from tasks.languages.registry import LANGUAGES
from tasks.languages.tiny import Tiny
from tasks.tiny_words import SPECIAL, VOCABULARY

TRIED = 4  # questions of a cell that are made to see whether its task works with its model
LONGEST_NAME = 255  # bytes of a folder's name, on most file systems


def check_machine(model: ModelSettings, *, here: bool = True) -> None:
    """Raise `UserError` with one line when a model cannot be run so, before anything of it is fetched. here: on this
    machine, which must then have the device."""
    if here:
        _check_device(model.device)
    if model.dtype not in DTYPES:
        raise unknown_choice("model.dtype", model.dtype, DTYPES)
    if model.adapter is not None:
        diffusion_spec(model).check_adapted()


def check_feasible(cell: Cell) -> None:
    """Raise `UserError` with one line when `cell` cannot work here, as far as its first examples tell."""
    _check_folder(cell)
    spec, layers = diffusion_spec(cell.settings.model), cell.checkpoint.config.num_layers
    check_ids(spec, cell.checkpoint.config)
    _check_block_size(spec, cell.checkpoint.config.max_positions)
    _check_routing(cell)
    cell.decoding.check(spec)
    if cell.settings.fuse_commit:
        check_fusing(spec, cell.decoding)
    cell.runner.check(spec, cell.checkpoint.config, fuse_commit=cell.settings.fuse_commit)
    _check_dense_layers(cell)
    cell.method.for_model(layers, spec.block_size)
    for where, length in cell.runner.prefixes.items():
        _check_budget(cell, length, where)
    if cell.task is not None:
        _check_vocabulary(cell)
        for length in cell.task.context_lengths():
            _check_length(cell, length)
        _check_prompts(cell, spec)


def diffusion_spec(model: ModelSettings) -> DiffusionSpec:
    """Return how a model writes a block. Raises `UserError`."""
    return DiffusionSpec(
        block_size=model.block_size,
        mask_id=model.mask_id,
        stop_ids=model.stop_ids,
        alignment=model.alignment,
        prefix_attention=model.prefix_attention,
        anchored=model.anchored,
        delete_id=model.delete_id,
        split_id=model.split_id,
    )


def _check_routing(cell: Cell) -> None:
    """A body whose experts are chosen by block is another model under other blocks."""
    experts = cell.checkpoint.config.experts
    routed = None if experts is None else experts.block_size
    if routed is not None and routed != cell.settings.model.block_size:
        raise UserError(
            f"model.block_size={cell.settings.model.block_size}: model={cell.labels.model} chooses its experts by "
            f"blocks of {routed} (config.json or model.body: block_size={routed}). Allowed: {routed}."
        )


def _check_block_size(spec: DiffusionSpec, positions: int) -> None:
    if spec.block_size > positions:
        raise UserError(f"model.block_size={spec.block_size} is out of range. Allowed: 1 to the model's {positions}.")


def _check_dense_layers(cell: Cell) -> None:
    """A method that is dense in every layer would be dense under its own name."""
    layers, dense = cell.checkpoint.config.num_layers, cell.method.dense_layers
    if not isinstance(cell.method, Dense) and dense >= layers:
        raise UserError(
            f"dense_layers={dense}: model={cell.labels.model} has {layers} layers, so that method={cell.labels.method} "
            f"would be dense in all. Allowed: 0 to {layers - 1}."
        )


def _check_length(cell: Cell, length: int) -> None:
    positions = cell.checkpoint.config.max_positions
    if length > positions:
        more = "" if cell.checkpoint.config.yarn else "; model.yarn stretches them"
        raise UserError(
            f"task.lengths={length}: model={cell.labels.model} has {positions} positions. "
            f"Allowed: at most {positions}{more}."
        )
    _check_budget(cell, length, f"task.lengths={length}")


@dataclass(frozen=True)
class _Reader:
    """What of a model its prompts depend on, without its weights. Equal for cells with the same first questions."""

    key: Hashable
    cell: Cell = field(compare=False)
    spec: DiffusionSpec = field(compare=False)

    @property
    def tokenizer(self) -> Tokenizer:
        return self.cell.checkpoint.tokenizer

    @property
    def max_positions(self) -> int:
        return self.cell.checkpoint.config.max_positions


@lru_cache(maxsize=64)
def _first_questions(reader: _Reader) -> list[Question]:
    return make_questions(reader.cell, reader, TRIED)


def _check_prompts(cell: Cell, spec: DiffusionSpec) -> None:
    """Make the first questions: a tokenizer that does not know the language, a context that cannot hold its needles."""
    some = min(cell.settings.examples or TRIED, TRIED)
    key = (cell.model_key, cell.task_hash, json.dumps(cell.config["task"], sort_keys=True), some)  # under any seed
    questions = _first_questions(_Reader(key, cell, spec))
    if cell.budget is None:
        return
    for prompt in (question.prompt for question in questions):
        prefilled = len(prompt.tokens) // spec.prefill_unit * spec.prefill_unit
        _check_budget(cell, prefilled, f"a prompt of {prefilled} tokens")
        cell.method.check_prompt(prefilled, prompt.question_start, cell.budget.resolve(prefilled))


def _check_vocabulary(cell: Cell) -> None:
    """The embedded model's language is a closed one: other models read it in pieces, and never say it.

    Random weights say nothing in any language: they may stand for a model.
    """
    task, tokenizer = cell.task, cell.checkpoint.tokenizer
    if not isinstance(task, GeneratedTask) or not isinstance(task.speaker(), Tiny):
        return
    words = VOCABULARY[len(SPECIAL) :]
    split = sum(len(tokenizer.encode(word)) != 1 for word in words)
    if split and cell.settings.model.weights != "random":
        others = ", ".join(name for name in LANGUAGES if name != task.language)
        raise UserError(
            f"task.language={task.language}: the tokenizer of model={cell.labels.model} splits {split} of the "
            f"{len(words)} words of the embedded model's own language. Allowed: model=tiny, or task.language={others}, "
            "or a task in another language."
        )


def _check_budget(cell: Cell, length: int, where: str) -> None:
    if cell.budget is None:
        return
    try:
        cell.method.check_budget(Budget(cell.budget.resolve(length)))
    except UserError as error:
        raise UserError(f"budget={cell.budget.value} with {where}: {error}") from error


def _check_folder(cell: Cell) -> None:
    """Names make the folder's name, and it must be possible to have it."""
    for told, name in (("name", cell.settings.name), ("a cell's name, of its choices,", cell.name)):
        if len(name) > LONGEST_NAME:
            raise UserError(f"{told}={name[:40]}... has {len(name)} characters. Allowed: at most {LONGEST_NAME}.")
    above = nearest(cell.folder.parent)
    if not above.is_dir():
        raise UserError(
            f"output_dir={cell.settings.output_dir}: {above} is not a folder. Allowed: a folder, or none yet."
        )


def _check_device(name: str) -> None:
    device = torch.device(name)
    if device.type != "cuda":
        return
    if not torch.cuda.is_available():
        raise UserError(f"model.device={name}: no CUDA device, or a torch without CUDA. Allowed: cpu.")
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise UserError(f"model.device={name}: no such device. Allowed: cpu, cuda, cuda:0 to cuda:{count - 1}.")
