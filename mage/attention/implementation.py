"""Which implementation of the operations of attention runs."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Literal

import torch

from mage.attention.operations import Operations
from mage.attention.torch_operations import TorchOperations
from mage.attention.triton_operations import TritonOperations
from mage.errors import UserError, unknown_choice

CHOICES = ("auto", "torch", "triton")
CAPABILITY = (8, 0)  # the oldest GPUs whose tensor cores take bfloat16


def operations(choice: str, device: torch.device) -> Operations:
    """Return the operations that `choice` names on `device`. Raises `UserError`, see `resolve`."""
    return TritonOperations() if resolve(choice, str(device)) == "triton" else TorchOperations()


def resolve(choice: str, device: str) -> Literal["torch", "triton"]:
    """Say what `choice` is on a device, such as `cuda:1`: `auto` is Triton on a GPU that its kernels are made for,
    torch elsewhere.

    Loads nothing. Raises `UserError` for an unknown choice, and for Triton where it is not installed or, on a CPU,
    where its interpreter was not asked for.
    """
    if choice not in CHOICES:
        raise unknown_choice("attention", choice, CHOICES)
    installed = find_spec("triton") is not None
    if choice == "auto":
        return "triton" if device != "cpu" and installed and _is_made_for(device) else "torch"
    if choice == "triton":
        if not installed:
            raise UserError("attention=triton: Triton is not installed. Allowed here: auto, torch.")
        if device == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
            raise UserError(
                "attention=triton on model.device=cpu needs Triton's interpreter: set TRITON_INTERPRET=1 in the "
                "environment (slow, for tests). Allowed here: auto, torch."
            )
    return "triton" if choice == "triton" else "torch"


def _is_made_for(device: str) -> bool:
    """Whether a GPU runs the kernels; where it is not there to ask, they are meant for one that does."""
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return (torch.device(device).index or 0) >= here or torch.cuda.get_device_capability(device) >= CAPABILITY
