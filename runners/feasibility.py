"""What refuses a cell before a sweep starts although its config is valid: the checkpoint, this machine."""

from __future__ import annotations

import torch

from mage.errors import UserError, unknown_choice
from mage.models.checkpoint import DTYPES, check_ids
from mage.models.config import DiffusionSpec
from runners.cell import Cell


def check_feasible(cell: Cell) -> None:
    """Raise `UserError` with one line when `cell` cannot work here, whatever its examples say."""
    model = cell.settings.model
    _check_device(model.device)
    if model.dtype not in DTYPES:
        raise unknown_choice("model.dtype", model.dtype, DTYPES)
    check_ids(diffusion_spec(cell), cell.checkpoint.config)


def diffusion_spec(cell: Cell) -> DiffusionSpec:
    """Return how the cell's model writes a block. Raises `UserError`."""
    model = cell.settings.model
    return DiffusionSpec(model.block_size, model.mask_id, model.stop_ids, model.alignment)


def _check_device(name: str) -> None:
    device = torch.device(name)
    if device.type != "cuda":
        return
    if not torch.cuda.is_available():
        raise UserError(f"model.device={name}: no CUDA device, or a torch without CUDA. Allowed: cpu.")
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise UserError(f"model.device={name}: no such device. Allowed: cpu, cuda, cuda:0 to cuda:{count - 1}.")
