"""Qwen3 and Qwen3-MoE."""

from __future__ import annotations

from typing import Any

from mage.models.config import Experts
from mage.models.families.family import Family, HubConfig
from mage.models.families.keys import required


def differences(config: HubConfig) -> dict[str, Any]:
    """A norm on every query and key head."""
    bias = bool(config.get("attention_bias", False))
    return {"qkv_bias": bias, "output_bias": bias, "mlp_bias": False, "qk_norm": True}


def moe_differences(config: HubConfig) -> dict[str, Any]:
    """A softmax router besides.

    Layer i has experts unless it is in `mlp_only_layers` or `decoder_sparse_step` does not divide i + 1 (transformers
    `modeling_qwen3_moe.Qwen3MoeDecoderLayer`).
    """
    step = config.get("decoder_sparse_step") or 1
    dense = config.get("mlp_only_layers") or ()
    layers = range(required(config, "num_hidden_layers"))
    experts = Experts(
        count=config.get("num_local_experts") or required(config, "num_experts"),  # transformers 5 renames the key
        per_token=required(config, "num_experts_per_tok"),
        intermediate_size=required(config, "moe_intermediate_size"),
        normalised=bool(config.get("norm_topk_prob", False)),
        dense_layers=tuple(layer for layer in layers if layer in dense or (layer + 1) % step),
    )
    return differences(config) | {"experts": experts}


FAMILIES = {"qwen3": Family(differences), "qwen3_moe": Family(moe_differences)}
