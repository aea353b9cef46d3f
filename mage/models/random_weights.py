"""Weights drawn at random: what a model costs in time and memory can be measured without its checkpoint."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from mage.errors import UserError
from mage.models.config import BodyConfig
from mage.models.families.registry import body_config, hub_layout
from mage.models.source import Source, Stored
from mage.models.tokenizer import Tokenizer

SEED = 0
GAIN = 2.0  # standard deviation of an output feature, for inputs of one: attention is not uniform, logits differ


class RandomWeights(Source):
    """A body drawn from `config`, the contents of a config.json (`model.body`).

    Every tensor has a seed of its own, made of `SEED` and its name, so that it does not depend on the others. Matrices
    have the standard deviation GAIN / sqrt(inputs), those that write to the residual stream 1 / sqrt(2 layers) of it;
    norms are 1, biases small. Draws differ between devices and dtypes, which are part of a cell's identity.
    """

    place = "model.weights=random"
    config_name: ClassVar[str] = "model.body"

    def __init__(self, config: Mapping[str, Any]) -> None:
        if not config:
            raise UserError("model.weights=random: model.body is empty. It holds the keys of a config.json.")
        self.config = dict(config)

    @property
    def vocab_size(self) -> int:
        """The number of embeddings. Raises `UserError` when the config does not say it."""
        return self._body().vocab_size

    def stored(self) -> dict[str, Stored]:
        """See Source: everything but what files may lack."""
        layout = hub_layout(self.config, self._body())
        file = Path("model.body")
        return {name: Stored(file, name, tensor.shape) for name, tensor in layout.items() if not tensor.optional}

    def tensors(self, device: torch.device, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
        """See Source. Drawn on the device itself, where 16 billion weights take seconds."""
        shrink = 1 / math.sqrt(2 * self._body().num_layers)
        for name, found in self.stored().items():
            seed = hashlib.sha256(f"{SEED}:{name}".encode()).digest()[:8]
            generator = torch.Generator(device).manual_seed(int.from_bytes(seed, "big") >> 1)
            tensor = torch.empty(found.shape, device=device, dtype=dtype)
            if len(found.shape) == 1:
                yield name, tensor.normal_(0.0, 0.02, generator=generator) if "bias" in name else tensor.fill_(1.0)
                continue
            writes = any(part in name for part in (".o_proj.", ".down_proj", ".dense."))
            scale = GAIN / math.sqrt(found.shape[-1]) * (shrink if writes else 1.0)
            yield name, tensor.normal_(0.0, scale, generator=generator)

    def digest(self) -> str:
        """See Source."""
        shapes = sorted((name, found.shape) for name, found in self.stored().items())
        text = json.dumps({"seed": SEED, "gain": GAIN, "layers": self._body().num_layers, "shapes": shapes})
        return hashlib.sha256(text.encode()).hexdigest()

    def tokenizer(self, options: Mapping[str, Any]) -> Tokenizer:
        """See Source. There is none."""
        raise UserError("model.weights=random: no tokenizer of its own. Choose one with model.tokenizer: qwen, bytes.")

    def _body(self) -> BodyConfig:
        return body_config(self.config)
