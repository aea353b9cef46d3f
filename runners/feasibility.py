"""What refuses a cell before a sweep starts although its config is valid: the checkpoint, this machine."""

from __future__ import annotations

import torch

from mage.budget import Budget
from mage.errors import UserError, unknown_choice
from mage.models.checkpoint import DTYPES, check_ids
from mage.models.diffusion import DiffusionSpec
from runners.cell import Cell


def check_feasible(cell: Cell) -> None:
    """Raise `UserError` with one line when `cell` cannot work here, whatever its examples say."""
    model = cell.settings.model
    _check_device(model.device)
    if model.dtype not in DTYPES:
        raise unknown_choice("model.dtype", model.dtype, DTYPES)
    check_ids(diffusion_spec(cell), cell.checkpoint.config)
    _check_dense_layers(cell)
    for length in cell.task.context_lengths():
        _check_length(cell, length)


def diffusion_spec(cell: Cell) -> DiffusionSpec:
    """Return how the cell's model writes a block. Raises `UserError`."""
    model = cell.settings.model
    return DiffusionSpec(model.block_size, model.mask_id, model.stop_ids, model.alignment)


def _check_dense_layers(cell: Cell) -> None:
    """A method that selects in no layer would be dense under its own name."""
    layers, dense = cell.checkpoint.config.num_layers, cell.method.dense_layers
    if cell.method.uses_budget and dense >= layers:
        raise UserError(
            f"dense_layers={dense}: model={cell.labels.model} has {layers} layers, so that method={cell.labels.method} "
            f"would select in none. Allowed: 0 to {layers - 1}."
        )


def _check_length(cell: Cell, length: int) -> None:
    positions = cell.checkpoint.config.max_positions
    if length > positions:
        raise UserError(
            f"task.lengths={length}: model={cell.labels.model} has {positions} positions. Allowed: at most {positions}."
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
