"""Checkpoint folders in the Hugging Face layout: config.json, *.safetensors (with or without index), a tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mage.errors import UserError
from mage.models.digest import file_digest
from mage.models.json_file import read_json
from mage.models.source import Source, Stored
from mage.models.tokenizer import Tokenizer
from mage.models.tokenizer_files import read_tokenizer

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
FLOATS = ("F64", "F32", "F16", "BF16")


class Folder(Source):
    """A local folder, also the snapshot of a hub repository. Raises `UserError` that names what is missing."""

    def __init__(self, path: Path) -> None:
        self.path, self.place = path, str(path)
        self.config = read_json(path / "config.json")

    def stored(self) -> dict[str, Stored]:
        """See Source. Raises `UserError` also for a tensor that is not of floating point: quantised otherwise."""
        found = {}
        for file in weight_files(self.path):
            with _opened(file) as archive:
                for name in archive.keys():  # noqa: SIM118 - the archive is not a mapping
                    part = archive.get_slice(name)
                    if part.get_dtype() not in FLOATS:
                        raise UserError(
                            f"{file}: tensor {name} has dtype {part.get_dtype()}. Allowed: {', '.join(FLOATS)}."
                        )
                    found[name] = Stored(file, name, tuple(part.get_shape()))
        return found

    def tensors(self, device: torch.device, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
        """See Source."""
        for file in weight_files(self.path):
            with _opened(file) as archive:
                for name in archive.keys():  # noqa: SIM118
                    yield name, archive.get_tensor(name)

    def digest(self) -> str:
        """See Source."""
        digest = hashlib.sha256()
        for file in weight_files(self.path):
            digest.update(f"{file.name}:{file_digest(file)}\n".encode())
        return digest.hexdigest()

    def tokenizer(self, options: Mapping[str, Any]) -> Tokenizer:
        """See Source."""
        return read_tokenizer(self.path, options)


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a folder: those of its index, else model.safetensors, else all there are.

    The checkpoints of SDAR-30B-A3B have no index; their files are called `layer-*-ep-0-of-1.safetensors`.
    """
    index = folder / INDEX_NAME
    if index.is_file():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise UserError(f"{index}: weight_map is not a table of file names.")
        names = sorted(set(weight_map.values()))
        for name in names:
            if not (folder / name).is_file():
                raise UserError(f"{folder / name}: named in {INDEX_NAME} but missing.")
        return [folder / name for name in names]
    if (folder / SINGLE_NAME).is_file():
        return [folder / SINGLE_NAME]
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
        found = f" Found {pickled[0]}: pickle formats can run code and are refused." if pickled else ""
        raise UserError(f"{folder}: no *.safetensors file.{found}")
    return files


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt") as archive:
            yield archive
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: not a readable safetensors file: {error}") from error
