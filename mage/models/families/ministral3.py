"""Ministral 3."""

from __future__ import annotations

from typing import Any

from mage.models.config import QueryScale
from mage.models.families import llama
from mage.models.families.family import Family, HubConfig
from mage.models.families.keys import refuse_set, rope_section


def differences(config: HubConfig) -> dict[str, Any]:
    """Llama with queries scaled by position (transformers `modeling_ministral3.get_llama_4_attn_scale`)."""
    refuse_set(config, "sliding_window")
    section = rope_section(config)
    beta, original = section.get("llama_4_scaling_beta"), section.get("original_max_position_embeddings")
    scale = QueryScale(float(beta), int(original)) if beta and original else None
    return llama.differences(config) | {"query_scale": scale}


FAMILIES = {"ministral3": Family(differences)}
