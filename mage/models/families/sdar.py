"""SDAR (arXiv 2510.06303) and TraDo: Qwen3 and Qwen3-MoE with an output matrix of their own at every size."""

from __future__ import annotations

from typing import Any

from mage.models.families import qwen3
from mage.models.families.family import Family, HubConfig


def differences(config: HubConfig) -> dict[str, Any]:
    """Never tied embeddings."""
    return qwen3.differences(config) | {"tied_embeddings": False}


def moe_differences(config: HubConfig) -> dict[str, Any]:
    """Never tied embeddings."""
    return qwen3.moe_differences(config) | {"tied_embeddings": False}


FAMILIES = {"sdar": Family(differences), "sdar_moe": Family(moe_differences)}
