"""What a transformer body is: its numbers and its declared differences."""

from __future__ import annotations

from dataclasses import dataclass

from mage.errors import UserError


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
