"""A fine-tuned body as a checkpoint folder like the one it came from: same files, same names, other numbers."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from mage.errors import UserError
from mage.models.folder import Folder, weight_files
from mage.models.layout import HubTensor
from mage.models.source import Source, layout_of
from mage.models.transformer import Transformer

COPIED = (".json", ".txt", ".model", ".jinja")
"""Files beside the weights that make a checkpoint: config, index, tokenizer, chat template."""


def tunable_folder(source: Source) -> Folder:
    """Return the source if a checkpoint like it can be written. Raises `UserError` for a GGUF file, random weights."""
    if not isinstance(source, Folder):
        raise UserError(
            f"model.weights={source.place}: fine-tuning writes a checkpoint folder like the one it loads. "
            "Allowed: a folder or a hub name; with runner.change.scope=block anything."
        )
    return source


def write_tuned(body: Transformer, source: Folder, folder: Path, dtype: torch.dtype) -> None:
    """Write the weights of `body` in `dtype` under the names of the files of `source`, and copy what stands beside.

    Each file is replaced as a whole. What the source keeps in float32 whatever its dtype stays so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    layout, state = layout_of(source, body.config), body.state_dict()
    for file in weight_files(source.path):
        temporary = folder / f"{file.name}.tmp"
        save_file(_tensors(file, layout, state, dtype), temporary, {"format": "pt"})
        temporary.chmod(0o644)  # the library writes files that only their owner can read
        temporary.replace(folder / file.name)
    for file in source.path.iterdir():
        if file.is_file() and file.suffix in COPIED:
            shutil.copyfile(file, folder / file.name)


def _tensors(
    file: Path, layout: dict[str, HubTensor], state: dict[str, Tensor], dtype: torch.dtype
) -> dict[str, Tensor]:
    found = {}
    with safe_open(file, framework="pt") as archive:
        for name in archive.keys():  # noqa: SIM118 - not a mapping
            hub = layout[name]
            if hub.parts:
                found[name] = _gather(hub, state, torch.float32 if hub.float32 else dtype)
            else:  # what the body derives itself
                found[name] = archive.get_tensor(name)
    return found


def _gather(hub: HubTensor, state: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
    """Undo `mage.models.layout.fill` for all parts of a hub tensor."""
    out = torch.empty(hub.shape, dtype=dtype)
    for part in hub.parts:
        own = state[part.target] if part.index is None else state[part.target][part.index]
        (out if part.rows is None else out[part.rows[0] : part.rows[1]]).copy_(own)
    return out
