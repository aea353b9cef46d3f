"""Adapters: low-rank changes that only the denoising forwards of a model use, stored in the layout of PEFT.

A folder of adapter_config.json and adapter_model.safetensors. A changed linear map is W + alpha / r B A (E. Hu et al.,
"LoRA", arXiv 2106.09685). Two things are ours: the key `scope: block` of the config, which says that prefill and commit
go without the adapter, and the tensor `mask_embedding`, what [MASK] is embedded as.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mage.errors import UserError
from mage.models.config import BodyConfig
from mage.models.json_file import read_json
from mage.models.transformer import Transformer

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
SCOPE = "block"
PREFIX = "base_model.model."
A, B = ".lora_A.weight", ".lora_B.weight"
MASK = "model.mask_embedding"
PLAIN: dict[str, tuple[object, ...]] = {  # keys of PEFT that would make another change, with the values that do not
    "bias": ("none", None),
    **dict.fromkeys(("use_rslora", "use_dora", "fan_in_fan_out", "lora_bias"), (False, None)),
    **dict.fromkeys(("rank_pattern", "alpha_pattern"), ({}, None)),
    **dict.fromkeys(("modules_to_save", "layers_to_transform", "layer_replication"), (None, [])),
}


@dataclass(frozen=True)
class Adapter:
    """The change of a body.

    factors: A `[rank, in]` and B `[out, rank]` of each changed linear map, by its name in `Transformer`, such as
    `model.layers.0.self_attn.q_proj`. mask_embedding: `[hidden]`, None where [MASK] keeps the body's own. place: what
    messages call it.
    """

    rank: int
    alpha: float
    factors: dict[str, tuple[Tensor, Tensor]]
    mask_embedding: Tensor | None = None
    place: str = field(default="adapter", compare=False)

    @classmethod
    def read(cls, folder: Path) -> Adapter:
        """Read a folder. Raises `UserError` that names the file, and the key or tensor, for what is damaged, not
        finite, without its partner, or another change than the one above.
        """
        rank, alpha = _read_config(folder / CONFIG_NAME)
        place = str(folder / WEIGHTS_NAME)
        tensors = _read_tensors(folder / WEIGHTS_NAME)
        mask = tensors.pop(MASK, None)
        factors = {}
        for name in tensors:
            stem = name.removesuffix(A).removesuffix(B)
            if stem == name:
                raise UserError(f"{place}: tensor {PREFIX}{name} is not part of an adapter.")
            for partner in (stem + A, stem + B):
                if partner not in tensors:
                    raise UserError(f"{place}: tensor {PREFIX}{partner} is missing.")
            factors[stem] = (tensors[stem + A], tensors[stem + B])
        return cls(rank, alpha, factors, mask, place)

    def write(self, folder: Path, dtype: torch.dtype, base: str) -> None:
        """Write the folder, tensors in `dtype`, each file atomically. base: what the model is called."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "peft_type": "LORA",
            "r": self.rank,
            "lora_alpha": self.alpha,
            "target_modules": sorted({name.rpartition(".")[2] for name in self.factors}),
            "base_model_name_or_path": base,
            "scope": SCOPE,
        }
        tensors = {PREFIX + name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in self._tensors()}
        temporary = folder / f"{WEIGHTS_NAME}.tmp"
        save_file(tensors, temporary, {"format": "pt"})
        temporary.chmod(0o644)  # the library writes files that only their owner can read
        temporary.replace(folder / WEIGHTS_NAME)
        temporary = folder / f"{CONFIG_NAME}.tmp"
        temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        temporary.replace(folder / CONFIG_NAME)

    @cached_property
    def digest(self) -> str:
        """Hex digits that change with the scale and with any number of the tensors."""
        found = hashlib.sha256(f"{self.rank}:{self.alpha}\n".encode())
        for name, tensor in sorted(self._tensors()):
            values = tensor.detach().cpu().contiguous()
            found.update(f"{name}:{values.dtype}:{tuple(values.shape)}\n".encode())
            found.update(values.view(torch.uint8).numpy().data)
        return found.hexdigest()

    def check(self, config: BodyConfig) -> None:
        """Raise `UserError` that names the first tensor which a body of `config` has no place for."""
        with torch.device("meta"):
            maps = _linear_maps(Transformer(config))
        for stem, (a, b) in self.factors.items():
            if stem not in maps:
                raise UserError(f"{self.place}: tensor {PREFIX}{stem}{A}: the model has no linear map {stem}.")
            outputs, inputs = maps[stem].weight.shape
            for end, factor, shape in ((A, a, (self.rank, inputs)), (B, b, (outputs, self.rank))):
                self._check_shape(f"{stem}{end}", factor, shape)
        if self.mask_embedding is not None:
            self._check_shape(MASK, self.mask_embedding, (config.hidden_size,))

    @torch.no_grad()
    def merged_into(self, body: Transformer, mask_id: int) -> Transformer:
        """Return the block body: `body` with the change merged and [MASK] embedded as the adapter says.

        It shares every tensor that is not changed with `body`, which stays as it is; the output matrix is that of
        `body`, also where it is tied to the embedding. The sum is taken in float32. Raises `UserError`, see `check`.
        """
        self.check(body.config)
        tensors = dict(body.state_dict())
        scale = self.alpha / self.rank
        for name, (a, b) in self.factors.items():
            weight = tensors[f"{name}.weight"]
            a, b = (factor.detach().to(weight.device, torch.float32) for factor in (a, b))
            tensors[f"{name}.weight"] = torch.addmm(weight.float(), b, a, alpha=scale).to(weight.dtype)
        if self.mask_embedding is not None:
            embedding = tensors["model.embed_tokens.weight"].clone()
            embedding[mask_id] = self.mask_embedding.detach().to(embedding)
            tensors["model.embed_tokens.weight"] = embedding
        with torch.device("meta"):
            merged = Transformer(body.config)
        merged.load_state_dict(tensors, assign=True)
        return merged.eval().requires_grad_(False)

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        """All tensors by the names that the file has behind its prefix."""
        for name, (a, b) in self.factors.items():
            yield name + A, a
            yield name + B, b
        if self.mask_embedding is not None:
            yield MASK, self.mask_embedding

    def _check_shape(self, name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
        found = tuple(tensor.shape)
        if found != shape:
            raise UserError(f"{self.place}: tensor {PREFIX}{name} has shape {found}, the model needs {shape}.")


def _linear_maps(body: Transformer) -> dict[str, nn.Linear]:
    """The linear maps of the layers. The output matrix is none of them: logits are those of the body."""
    named = body.model.layers.named_modules(prefix="model.layers")
    return {name: module for name, module in named if isinstance(module, nn.Linear)}


def _read_config(file: Path) -> tuple[int, float]:
    """Return rank and alpha."""
    config = read_json(file)
    for key, allowed in (("peft_type", "LORA"), ("scope", SCOPE)):
        if config.get(key) != allowed:
            raise UserError(f"{file}: {key}={_shown(config, key)} is not supported. Allowed: {allowed}.")
    for key, plain in PLAIN.items():
        if config.get(key) not in plain:
            raise UserError(f"{file}: {key}={config[key]} is not supported. Allowed: {json.dumps(plain[0])}.")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise UserError(f"{file}: r={_shown(config, 'r')} is out of range. Allowed: an integer >= 1.")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not math.isfinite(alpha):
        raise UserError(f"{file}: lora_alpha={_shown(config, 'lora_alpha')} is not a number.")
    return rank, float(alpha)


def _read_tensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors by their names without PEFT's prefix."""
    if not file.is_file():
        raise UserError(f"{file}: the file is missing.")
    try:
        stored = load_file(file)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: not a readable safetensors file: {error}") from error
    for name, tensor in stored.items():
        if not name.startswith(PREFIX):
            raise UserError(f"{file}: tensor {name} is not part of an adapter.")
        if not tensor.is_floating_point():
            raise UserError(f"{file}: tensor {name} has dtype {tensor.dtype}. Allowed: floating point.")
        if not bool(tensor.isfinite().all()):
            raise UserError(f"{file}: tensor {name} holds NaN or infinity.")
    return {name.removeprefix(PREFIX): tensor for name, tensor in stored.items()}


def _shown(config: dict[str, Any], key: str) -> str:
    return str(config.get(key, "(missing)"))
