"""Llama: the plain body."""

from __future__ import annotations

from typing import Any

from mage.models.families.family import Family, HubConfig


def differences(config: HubConfig) -> dict[str, Any]:
    """Biases where the config asks for them."""
    bias = bool(config.get("attention_bias", False))
    return {
        "qkv_bias": bias,
        "output_bias": bias,
        "mlp_bias": bool(config.get("mlp_bias", False)),
        "qk_norm": False,
    }


FAMILIES = {"llama": Family(differences)}
