"""From config.json to a body: the family by its `model_type`, and what all families read alike."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from mage.errors import unknown_choice
from mage.models.config import BodyConfig
from mage.models.families import efficient_dlm, fast_dllm, llada2, llama, ministral3, nemotron, qwen2, qwen3, sdar
from mage.models.families.family import Family, HubConfig
from mage.models.families.keys import (
    max_positions,
    refuse_set,
    refuse_unless,
    required,
    rope_theta,
    rotary_dim,
    yarn,
)
from mage.models.layout import Layout

_FILES = (llama, qwen2, qwen3, ministral3, fast_dllm, sdar, llada2, efficient_dlm, nemotron)
FAMILIES: dict[str, Family] = {name: family for file in _FILES for name, family in file.FAMILIES.items()}


def body_config(config: HubConfig) -> BodyConfig:
    """Translate the contents of a Hugging Face config.json.

    Raises `UserError` that names the key when one is missing, or when the file asks for what this body does not do
    (an unknown family, a rotary scaling other than YaRN, a sliding window, another activation than SiLU).
    """
    family = _family(config)
    refuse_unless(config, "hidden_act", "silu")
    refuse_set(config, "use_sliding_window")
    num_heads = required(config, "num_attention_heads")
    head_dim = config.get("head_dim") or required(config, "hidden_size") // num_heads
    fields: dict[str, Any] = {
        "vocab_size": required(config, "vocab_size"),
        "hidden_size": required(config, "hidden_size"),
        "intermediate_size": required(config, "intermediate_size"),
        "num_layers": required(config, "num_hidden_layers"),
        "num_heads": num_heads,
        "num_kv_heads": config.get("num_key_value_heads") or num_heads,
        "head_dim": head_dim,
        "max_positions": max_positions(config),
        "rms_norm_eps": config.get("rms_norm_eps", 1e-6),
        "rope_theta": rope_theta(config),
        "rotary_dim": rotary_dim(config, head_dim),
        "yarn": yarn(config),
        "tied_embeddings": bool(config.get("tie_word_embeddings", False)),
    }
    return BodyConfig(**fields | family.differences(config))


def hub_layout(config: HubConfig, body: BodyConfig) -> Layout:
    """Return every tensor name of the hub's files, with its shape and the places in `body` it fills.

    config: the contents of config.json, from which `body` was made. The same object for the same body: not to be
    changed. Raises `UserError` for an unknown family.
    """
    return _layout(_family(config), body)


@lru_cache(maxsize=4)  # 18 thousand tensors of a mixture of experts take a while, and are asked for again and again
def _layout(family: Family, body: BodyConfig) -> Layout:
    return family.layout(body)


def _family(config: HubConfig) -> Family:
    name = config.get("model_type")
    if name not in FAMILIES:
        raise unknown_choice("config.json: model_type", name, FAMILIES)
    return FAMILIES[name]
