"""What refuses a cell before a sweep starts although its config is valid: the checkpoint, this machine."""

from __future__ import annotations

import torch

from baselines.dense import Dense
from mage.budget import Budget
from mage.errors import UserError, unknown_choice
from mage.models.checkpoint import DTYPES, check_ids
from mage.models.diffusion import DiffusionSpec
from runners.cell import Cell
from runners.settings import ModelSettings


def check_machine(model: ModelSettings) -> None:
    """Raise `UserError` with one line when a model cannot be run so here, before anything of it is fetched."""
    _check_device(model.device)
    if model.dtype not in DTYPES:
        raise unknown_choice("model.dtype", model.dtype, DTYPES)
    if model.adapter is not None:
        diffusion_spec(model).check_adapted()


def check_feasible(cell: Cell) -> None:
    """Raise `UserError` with one line when `cell` cannot work here, whatever its examples say."""
    spec, layers = diffusion_spec(cell.settings.model), cell.checkpoint.config.num_layers
    check_ids(spec, cell.checkpoint.config)
    _check_block_size(spec, cell.checkpoint.config.max_positions)
    _check_routing(cell)
    cell.decoding.check(spec)
    cell.runner.check(spec, cell.checkpoint.config)
    _check_dense_layers(cell)
    cell.method.for_model(layers, spec.block_size)
    if cell.task is not None:
        for length in cell.task.context_lengths():
            _check_length(cell, length)


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
    if cell.budget is None:
        return
    try:
        cell.method.check_budget(Budget(cell.budget.resolve(length)))
    except UserError as error:
        raise UserError(f"budget={cell.budget.value} with task.lengths={length}: {error}") from error


def _check_device(name: str) -> None:
    device = torch.device(name)
    if device.type != "cuda":
        return
    if not torch.cuda.is_available():
        raise UserError(f"model.device={name}: no CUDA device, or a torch without CUDA. Allowed: cpu.")
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise UserError(f"model.device={name}: no such device. Allowed: cpu, cuda, cuda:0 to cuda:{count - 1}.")
