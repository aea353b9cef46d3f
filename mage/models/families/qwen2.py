"""Qwen2 and Qwen2.5."""

from __future__ import annotations

from typing import Any

from mage.models.families.family import Family, HubConfig


def differences(config: HubConfig) -> dict[str, Any]:
    """Biases on queries, keys and values alone."""
    return {"qkv_bias": True, "output_bias": False, "mlp_bias": False, "qk_norm": False}


FAMILIES = {"qwen2": Family(differences)}
