"""What a model is: the numbers of its transformer body, and how it writes by block diffusion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mage.errors import UserError

Alignment = Literal["same", "shifted"]


@dataclass(frozen=True)
class BodyConfig:
    """The declared numbers and differences of one decoder transformer (Llama, Qwen2 and Qwen3 bodies).

    `qkv_bias`, `output_bias`, `mlp_bias`: biases of the projections. `qk_norm`: RMSNorm of each query and key head
    before the rotary embedding (Qwen3). `tied_embeddings`: the output matrix is the embedding matrix.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int
    rms_norm_eps: float
    rope_theta: float
    tied_embeddings: bool
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    qk_norm: bool

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise UserError(
                f"config.json: num_attention_heads={self.num_heads} is not a multiple of "
                f"num_key_value_heads={self.num_kv_heads}."
            )
        if self.head_dim % 2:
            raise UserError(f"config.json: head_dim={self.head_dim} is odd; rotary embedding needs an even size.")


@dataclass(frozen=True)
class DiffusionSpec:
    """How a model writes a block: what a checkpoint's config.json mostly does not say.

    `block_size`: positions denoised together. `mask_id`: the id of [MASK], never emitted. `stop_ids`: ids that end an
    answer. `alignment`: `same` when the logits of position i predict token i (SDAR, LLaDA2), `shifted` when they
    predict token i + 1 (Fast-dLLM v2).
    """

    block_size: int
    mask_id: int
    stop_ids: tuple[int, ...]
    alignment: Alignment = "same"

    def __post_init__(self) -> None:
        if self.block_size < 1:
            raise UserError(f"model.block_size={self.block_size} is out of range. Allowed: an integer >= 1.")
        if self.alignment not in ("same", "shifted"):
            raise UserError(f"model.alignment={self.alignment} is not known. Allowed: same, shifted.")
        if self.mask_id in self.stop_ids:
            raise UserError(f"model.mask_id={self.mask_id} is also a stop id.")
