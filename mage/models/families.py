"""The families this body serves, each as the differences it declares in a Hugging Face config.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mage.errors import UserError, unknown_choice
from mage.models.config import BodyConfig

Differences = Callable[[Mapping[str, Any]], dict[str, bool]]


def _qwen2(config: Mapping[str, Any]) -> dict[str, bool]:
    return {"qkv_bias": True, "output_bias": False, "mlp_bias": False, "qk_norm": False}


def _qwen3(config: Mapping[str, Any]) -> dict[str, bool]:
    bias = bool(config.get("attention_bias", False))
    return {"qkv_bias": bias, "output_bias": bias, "mlp_bias": False, "qk_norm": True}


def _llama(config: Mapping[str, Any]) -> dict[str, bool]:
    bias = bool(config.get("attention_bias", False))
    return {
        "qkv_bias": bias,
        "output_bias": bias,
        "mlp_bias": bool(config.get("mlp_bias", False)),
        "qk_norm": False,
    }


FAMILIES: dict[str, Differences] = {"llama": _llama, "qwen2": _qwen2, "qwen3": _qwen3}


def body_config(config: Mapping[str, Any]) -> BodyConfig:
    """Translate the contents of a Hugging Face config.json.

    Raises `UserError` that names the key when one is missing, or when the file asks for what this body does not do
    (an unknown family, a scaled rotary embedding, a sliding window, another activation than SiLU).
    """
    family = config.get("model_type")
    if family not in FAMILIES:
        raise unknown_choice("config.json: model_type", family, FAMILIES)
    if config.get("hidden_act", "silu") != "silu":
        raise UserError(f"config.json: hidden_act={config['hidden_act']} is not supported. Allowed: silu.")
    if config.get("use_sliding_window"):
        raise UserError("config.json: use_sliding_window=true is not supported. Allowed: false.")

    def number(key: str) -> Any:
        if config.get(key) is None:
            raise UserError(f"config.json: key {key} is missing.")
        return config[key]

    num_heads = number("num_attention_heads")
    return BodyConfig(
        vocab_size=number("vocab_size"),
        hidden_size=number("hidden_size"),
        intermediate_size=number("intermediate_size"),
        num_layers=number("num_hidden_layers"),
        num_heads=num_heads,
        num_kv_heads=config.get("num_key_value_heads") or num_heads,
        head_dim=config.get("head_dim") or number("hidden_size") // num_heads,
        max_positions=number("max_position_embeddings"),
        rms_norm_eps=config.get("rms_norm_eps", 1e-6),
        rope_theta=_rope_theta(config),
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
        **FAMILIES[family](config),
    )


def _rope_theta(config: Mapping[str, Any]) -> float:
    """Read theta from `rope_parameters` (transformers 5) or `rope_theta` (before); refuse any scaling."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind != "default":
        raise UserError(f"config.json: rope_type={kind} is not supported yet. Allowed: default.")
    return float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0)
