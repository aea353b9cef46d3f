"""How a model writes by block diffusion: what a checkpoint's config.json mostly does not say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mage.errors import UserError, unknown_choice

Alignment = Literal["same", "shifted"]
PrefixAttention = Literal["block_causal", "causal"]


@dataclass(frozen=True)
class DiffusionSpec:
    """The declaration of one model.

    `block_size`: positions denoised together. `mask_id`: the id of [MASK], never emitted. `stop_ids`: ids that end an
    answer. `alignment`: `same` when the logits of position i predict token i (SDAR, LLaDA2), `shifted` when they
    predict token i + 1 (Fast-dLLM v2). `prefix_attention`: how finished tokens see each other. `block_causal`: blocks
    stand at absolute multiples of the block size, and the prompt's tail shares the first one; `causal`: the whole
    prompt is prefilled, blocks start at its end, a commit is causal (Nemotron-Labs-Diffusion). `anchored`: the first
    token of a block is the greedy choice of the last finished position, as it always is with shifted logits.
    """

    block_size: int
    mask_id: int
    stop_ids: tuple[int, ...]
    alignment: Alignment = "same"
    prefix_attention: PrefixAttention = "block_causal"
    anchored: bool = False

    def __post_init__(self) -> None:
        if self.block_size < 1:
            raise UserError(f"model.block_size={self.block_size} is out of range. Allowed: an integer >= 1.")
        if self.alignment not in ("same", "shifted"):
            raise unknown_choice("model.alignment", self.alignment, ("same", "shifted"))
        if self.prefix_attention not in ("block_causal", "causal"):
            raise unknown_choice("model.prefix_attention", self.prefix_attention, ("block_causal", "causal"))
        if self.mask_id in self.stop_ids:
            raise UserError(f"model.mask_id={self.mask_id} is also a stop id.")
