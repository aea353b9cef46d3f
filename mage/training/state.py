"""The whole state of a training run in one file: a kill at any moment leaves the old one or the new one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mage.errors import UserError

NAME = "state.safetensors"


def save_state(
    folder: Path,
    weights: Mapping[str, Tensor],
    optimisers: Iterable[torch.optim.Optimizer],
    progress: Mapping[str, Any],
) -> None:
    """Write weights, optimiser moments and `progress` (anything JSON can hold) to `folder`, atomically."""
    names = {weight: name for name, weight in weights.items()}
    tensors = {f"weights.{name}": weight.detach() for name, weight in weights.items()}
    for optimiser in optimisers:
        for weight, moments in optimiser.state.items():
            for key, moment in moments.items():
                tensors[f"{key}.{names[weight]}"] = torch.as_tensor(moment)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{NAME}.{os.getpid()}.tmp"
    save_file(
        {key: tensor.contiguous() for key, tensor in tensors.items()}, temporary, {"progress": json.dumps(progress)}
    )
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    temporary.replace(folder / NAME)


def load_state(
    folder: Path, weights: Mapping[str, Tensor], optimisers: Iterable[torch.optim.Optimizer]
) -> dict[str, Any] | None:
    """Restore what `save_state` wrote into weights and optimisers and return `progress`; None when there is nothing.

    Raises `UserError` when the file is damaged or does not fit these weights.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as archive:
            progress: dict[str, Any] = json.loads((archive.metadata() or {})["progress"])
            tensors = {key: archive.get_tensor(key) for key in archive.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path}: the state is damaged ({error}). Delete the file to begin anew.") from error
    for name, weight in weights.items():
        saved = tensors.pop(f"weights.{name}", None)
        if saved is None or saved.shape != weight.shape:
            raise UserError(f"{path}: {name} does not fit this model. Train in another folder, or delete the file.")
        weight.data.copy_(saved)
    owner = {
        id(weight): optimiser
        for optimiser in optimisers
        for group in optimiser.param_groups
        for weight in group["params"]
    }
    for key, tensor in tensors.items():
        moment, _, name = key.partition(".")
        weight = weights[name]
        owner[id(weight)].state[weight][moment] = tensor
    return progress
