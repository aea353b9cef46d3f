"""What a transformer body is: its numbers and its declared differences."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from mage.errors import UserError


@dataclass(frozen=True)
class Yarn:
    """A rotary embedding stretched for positions beyond the trained ones (YaRN, arXiv 2309.00071).

    `factor`: by how much. `original_positions`: the trained window. `beta_fast`, `beta_slow`: turns within the trained
    window above which a pair of dimensions keeps its frequency, and below which it is slowed down by the whole factor.
    `attention_factor`: multiplies cosine and sine. `truncate`: the two limits are rounded to whole pairs.
    """

    factor: float
    original_positions: int
    attention_factor: float
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True


@dataclass(frozen=True)
class QueryScale:
    """Queries at position p are multiplied by 1 + beta ln(1 + floor(p / original_positions)) (Llama 4, Ministral 3)."""

    beta: float
    original_positions: int


@dataclass(frozen=True)
class Experts:
    """The mixture of experts that replaces the feed-forward of all layers but `dense_layers`.

    `count` experts of `intermediate_size`, of which each token takes `per_token`. `scoring`: how router logits become
    scores. `bias`: a learnt bias per expert takes part in the choice, not in the weights. `groups`, `groups_kept`:
    experts form `groups` equal groups, and a token chooses within its best `groups_kept` of them. `normalised`: the
    chosen weights are made to sum to 1. `scale`: multiplies them afterwards. `shared_size`: intermediate size of the
    expert that every token takes; 0: none. `capacity`, `block_size`: block routing (LLaDA2.2); all tokens of a block
    choose within the `capacity` experts that the block admits.
    """

    count: int
    per_token: int
    intermediate_size: int
    scoring: Literal["softmax", "sigmoid"] = "softmax"
    normalised: bool = True
    bias: bool = False
    groups: int = 1
    groups_kept: int = 1
    scale: float = 1.0
    shared_size: int = 0
    dense_layers: tuple[int, ...] = ()
    capacity: int | None = None
    block_size: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.per_token <= self.count:
            raise UserError(f"config.json: num_experts_per_tok={self.per_token} of num_experts={self.count}.")
        if self.count % self.groups:
            raise UserError(f"config.json: num_experts={self.count} is not a multiple of n_group={self.groups}.")
        size = self.count // self.groups
        if self.groups > 1 and (self.groups_kept > self.groups or self.groups_kept * size < self.per_token):
            raise UserError(
                f"config.json: topk_group={self.groups_kept} groups of {size} experts hold fewer than "
                f"num_experts_per_tok={self.per_token}."
            )
        if self.capacity is not None and not self.per_token <= self.capacity <= self.count:
            raise UserError(
                f"config.json: expert_capacity={self.capacity} is out of range. Allowed: num_experts_per_tok="
                f"{self.per_token} to num_experts={self.count}."
            )


@dataclass(frozen=True)
class BodyConfig:
    """The declared numbers and differences of one decoder transformer.

    `qkv_bias`, `output_bias`, `mlp_bias`: biases of the projections. `qk_norm`: RMSNorm of each query and key head
    before the rotary embedding (Qwen3). `tied_embeddings`: the output matrix is the embedding matrix. `rotary_dim`:
    the first dimensions of a head that are rotated; None: all. `max_positions`: with YaRN, the stretched window.
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
    rotary_dim: int | None = None
    yarn: Yarn | None = None
    query_scale: QueryScale | None = None
    experts: Experts | None = None

    def __post_init__(self) -> None:
        for key, value in {
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.max_positions,
        }.items():
            if not isinstance(value, int) or value < 1:
                raise UserError(f"config.json: {key}={value} is out of range. Allowed: a whole number >= 1.")
        if self.num_heads % self.num_kv_heads:
            raise UserError(
                f"config.json: num_attention_heads={self.num_heads} is not a multiple of "
                f"num_key_value_heads={self.num_kv_heads}."
            )
        if self.head_dim % 2:
            raise UserError(f"config.json: head_dim={self.head_dim} is odd; rotary embedding needs an even size.")
        if self.rotary_width % 2 or not 0 < self.rotary_width <= self.head_dim:
            raise UserError(
                f"config.json: {self.rotary_width} rotary dimensions of head_dim={self.head_dim}: needs an even number."
            )

    @property
    def rotary_width(self) -> int:
        """The number of dimensions of a head that are rotated."""
        return self.rotary_dim or self.head_dim


def with_yarn(config: BodyConfig, factor: float) -> BodyConfig:
    """Return the body with its window stretched by `factor`, as a config.json with this YaRN factor would ask for.

    Raises `UserError` when the factor is not above 1 or the checkpoint has YaRN of its own.
    """
    if not (math.isfinite(factor) and factor > 1):
        raise UserError(f"model.yarn={factor} is out of range. Allowed: null, or a number > 1.")
    if config.yarn is not None:
        raise UserError(f"model.yarn={factor}: the checkpoint already has YaRN with factor {config.yarn.factor:g}.")
    yarn = Yarn(factor, config.max_positions, yarn_attention_factor(factor))
    return replace(config, yarn=yarn, max_positions=round(config.max_positions * factor))


def yarn_attention_factor(factor: float, mscale: float = 1.0) -> float:
    """Return 0.1 mscale ln(factor) + 1, what YaRN (section 3.4) multiplies cosine and sine by; 1 up to factor 1."""
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0
