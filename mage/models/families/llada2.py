"""LLaDA2.0, 2.1 and 2.2: a mixture of experts with tensor names of its own (github.com/inclusionAI/dFactory)."""

from __future__ import annotations

from typing import Any

from mage.models.config import BodyConfig, Experts
from mage.models.families.family import Family, HubConfig
from mage.models.families.keys import refuse_unless, required, rope_section
from mage.models.layout import Layout, default_layout, fused, renamed, stacked_layout

_NAMES = {
    "model.embed_tokens.": "model.word_embeddings.",
    ".self_attn.q_norm.": ".attention.query_layernorm.",
    ".self_attn.k_norm.": ".attention.key_layernorm.",
    ".self_attn.o_proj.": ".attention.dense.",
    ".mlp.gate.bias": ".mlp.gate.expert_bias",
}


def differences(config: HubConfig) -> dict[str, Any]:
    """Partial rotary embedding, sigmoid router over groups of experts, one shared expert, dense first layers.

    Block routing where the config has `expert_capacity` (LLaDA2.2). The weights of the chosen experts sum to 1 before
    `routed_scaling_factor`, as in the reference (`modeling_llada2_moe.LLaDA2MoeGate`).
    """
    refuse_unless(config, "score_function", "sigmoid")
    refuse_unless(config, "norm_topk_prob", True)
    head_dim = config.get("head_dim") or required(config, "hidden_size") // required(config, "num_attention_heads")
    part = rope_section(config).get("partial_rotary_factor") or required(config, "partial_rotary_factor")
    bias = bool(config.get("use_bias", False))
    size = required(config, "moe_intermediate_size")
    capacity = config.get("expert_capacity")
    experts = Experts(
        count=required(config, "num_experts"),
        per_token=required(config, "num_experts_per_tok"),
        intermediate_size=size,
        scoring="sigmoid",
        bias=bool(config.get("moe_router_enable_expert_bias", True)),
        groups=config.get("n_group") or 1,
        groups_kept=config.get("topk_group") or 1,
        scale=float(config.get("routed_scaling_factor") or 1.0),
        shared_size=size * (config.get("num_shared_experts") or 0),
        dense_layers=tuple(range(config.get("first_k_dense_replace") or 0)),
        capacity=capacity,
        block_size=None if capacity is None else required(config, "block_size"),
    )
    return {
        "qkv_bias": bool(config.get("use_qkv_bias", False)),
        "output_bias": bias,
        "mlp_bias": False,
        "qk_norm": bool(config.get("use_qk_norm", True)),
        "rotary_dim": int(head_dim * part),
        "experts": experts,
    }


def layout(body: BodyConfig) -> Layout:
    """Return the hub's names: query, key and value stacked in this order in `attention.query_key_value`."""
    return _renamed(default_layout(body), body)


def merged_layout(body: BodyConfig) -> Layout:
    """Return the names after dFactory's merge, `scripts/moe_convertor.py`: experts stacked as the body has them."""
    return _renamed(stacked_layout(body), body)


def _renamed(names: Layout, body: BodyConfig) -> Layout:
    for layer in range(body.num_layers):
        for kind in ("weight", "bias") if body.qkv_bias else ("weight",):
            sources = tuple(f"model.layers.{layer}.self_attn.{matrix}_proj.{kind}" for matrix in "qkv")
            names = fused(names, sources, f"model.layers.{layer}.attention.query_key_value.{kind}")
    return renamed(names, _hub_name)


def _hub_name(name: str) -> str:
    for ours, theirs in _NAMES.items():
        name = name.replace(ours, theirs)
    return name


FAMILIES = {"llada2_moe": Family(differences, layout), "llada2_moe_veomni": Family(differences, merged_layout)}
