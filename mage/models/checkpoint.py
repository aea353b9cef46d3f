"""Checkpoint folders in the Hugging Face layout: config.json, *.safetensors (with or without index), tokenizer.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mage.errors import UserError, unknown_choice
from mage.models.config import BodyConfig
from mage.models.diffusion import DiffusionSpec
from mage.models.families import body_config
from mage.models.tokenizer import Tokenizer
from mage.models.transformer import Transformer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
INDEX_NAME = "model.safetensors.index.json"


@dataclass(frozen=True)
class LanguageModel:
    """A loaded model: body, block-diffusion declaration, tokenizer."""

    body: Transformer
    spec: DiffusionSpec
    tokenizer: Tokenizer

    @property
    def max_positions(self) -> int:
        """The number of positions the checkpoint declares."""
        return self.body.config.max_positions

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.body.lm_head.weight.device


def load_model(
    folder: str | Path, spec: DiffusionSpec, *, device: str = "cpu", dtype: str = "float32"
) -> LanguageModel:
    """Load a checkpoint folder for inference.

    Raises `UserError` that names the file, and the tensor or key, when something is missing, truncated, surplus, of
    another shape than config.json says, or in another format than safetensors.
    """
    path = Path(folder)
    if dtype not in DTYPES:
        raise unknown_choice("model.dtype", dtype, DTYPES)
    config = check_checkpoint(path)
    check_ids(spec, config)
    with torch.device("meta"):
        body = Transformer(config)
    tensors: dict[str, Tensor] = {}
    for file in weight_files(path):
        with _opened(file) as archive:
            tensors |= {name: archive.get_tensor(name).to(DTYPES[dtype]) for name in archive.keys()}  # noqa: SIM118
    body.load_state_dict(tensors, assign=True, strict=not config.tied_embeddings)
    if config.tied_embeddings:
        body.lm_head.weight = body.model.embed_tokens.weight
    body.to(device).eval().requires_grad_(False)
    return LanguageModel(body, spec, Tokenizer(path / "tokenizer.json"))


def check_checkpoint(folder: Path) -> BodyConfig:
    """Check a checkpoint folder by its headers, without reading any weight, and return what its config says.

    Raises `UserError` as `load_model` does.
    """
    config = read_config(folder)
    with torch.device("meta"):
        body = Transformer(config)
    expected = {name: tuple(tensor.shape) for name, tensor in body.state_dict().items()}
    missing = set(expected)
    if config.tied_embeddings:
        missing.discard("lm_head.weight")  # some files hold it all the same
    files = weight_files(folder)
    for file in files:
        with _opened(file) as archive:
            for name in archive.keys():  # noqa: SIM118 - the archive is not a mapping
                if name not in expected:
                    raise UserError(f"{file}: tensor {name} is not part of this model.")
                shape = tuple(archive.get_slice(name).get_shape())
                if shape != expected[name]:
                    raise UserError(f"{file}: tensor {name} has shape {shape}, config.json says {expected[name]}.")
                missing.discard(name)
    if missing:
        raise UserError(f"{folder}: tensor {min(missing)} is missing from the weight files.")
    Tokenizer(folder / "tokenizer.json")
    return config


def check_ids(spec: DiffusionSpec, config: BodyConfig) -> None:
    """Raise `UserError` when the mask id or a stop id is outside the vocabulary."""
    for field, ids in (("model.mask_id", (spec.mask_id,)), ("model.stop_ids", spec.stop_ids)):
        for value in ids:
            if not 0 <= value < config.vocab_size:
                raise UserError(f"{field}={value} is outside the vocabulary of {config.vocab_size} tokens.")


def read_config(folder: Path) -> BodyConfig:
    """Read config.json of a checkpoint folder."""
    if not folder.is_dir():
        raise UserError(f"model.path={folder}: no such checkpoint folder.")
    return body_config(_read_json(folder / "config.json"))


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a folder, by its index when there is one."""
    index = folder / INDEX_NAME
    if index.is_file():
        names = sorted(set(_read_json(index).get("weight_map", {}).values()))
        for name in names:
            if not (folder / name).is_file():
                raise UserError(f"{folder / name}: named in {INDEX_NAME} but missing.")
        return [folder / name for name in names]
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = [p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".pkl")]
        found = f" Found {pickled[0]}: pickle formats can run code and are refused." if pickled else ""
        raise UserError(f"{folder}: no *.safetensors file.{found}")
    return files


def content_hash(folder: str | Path) -> str:
    """Return 16 hex digits that change when the config, the tokenizer or any weight of the folder changes."""
    path = Path(folder)
    digest = hashlib.sha256()
    for file in [path / "config.json", path / "tokenizer.json", *weight_files(path)]:
        if not file.is_file():
            raise UserError(f"{file}: the file is missing.")
        with file.open("rb") as stream:
            digest.update(f"{file.name}:{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path}: the file is missing.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object.")
    return content


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt") as archive:
            yield archive
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: not a readable safetensors file: {error}") from error
