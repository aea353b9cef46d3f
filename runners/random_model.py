"""A model of the shape of a choice of conf/model, its weights drawn at random, without Hydra."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mage.errors import UserError
from mage.models.checkpoint import LanguageModel, content_hash, load_model
from mage.models.diffusion import DiffusionSpec
from mage.models.families.registry import body_config
from mage.models.random_weights import RandomWeights
from mage.models.tokenizer import Tokenizer
from mage.models.vocabulary import byte
from runners.choices import read_choice
from runners.environment import ROOT


@dataclass(frozen=True)
class RandomModel:
    """What a model is before it takes any memory. `choice`: its section of the config, with what was changed. Its stop
    tokens are switched off."""

    name: str
    choice: dict[str, Any]
    spec: DiffusionSpec
    source: RandomWeights
    tokenizer: Tokenizer
    content_hash: str

    @classmethod
    def read(cls, folder: Path, name: str, *, block_size: int, positions: int) -> RandomModel:
        """Read the shape `name` of `folder`, in blocks of `block_size`.

        A window shorter than `positions` is lengthened to it: random weights have no trained one. The embedded model
        has the shape that lies with its weights. Raises `UserError`.
        """
        choice = read_choice(folder, name)
        embedded = ROOT / str(choice.get("weights")) / "config.json"
        if not choice.get("body") and embedded.is_file():
            choice["body"] = json.loads(embedded.read_text(encoding="utf-8"))
        if not choice.get("body"):
            raise UserError(f"model={name}: it has no model.body, and random weights need its shape.")
        longest = max(int(choice["body"].get("max_position_embeddings", 0)), positions)
        choice = {
            **choice,
            "block_size": block_size,
            "stop_ids": [],
            "body": {**choice["body"], "max_position_embeddings": longest},
        }
        spec = DiffusionSpec(
            block_size=block_size,
            mask_id=choice["mask_id"],
            stop_ids=(),
            alignment=choice.get("alignment", "same"),
            prefix_attention=choice.get("prefix_attention", "block_causal"),
            anchored=choice.get("anchored", False),
        )
        source, tokenizer = RandomWeights(choice["body"]), byte(spec.mask_id, ())
        digest = content_hash(source, tokenizer, body_config(choice["body"]))
        return cls(name, choice, spec, source, tokenizer, digest)

    def load(self, device: str, dtype: str) -> LanguageModel:
        """Draw the weights. Raises what a lack of memory raises."""
        return load_model(self.source, self.spec, device=device, dtype=dtype, tokenizer=self.tokenizer)
