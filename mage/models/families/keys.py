"""Reading config.json: keys that must be there, settings that must not be, and the rotary embedding."""

from __future__ import annotations

from typing import Any

from mage.errors import UserError
from mage.models.config import Yarn, yarn_attention_factor
from mage.models.families.family import HubConfig


def required(config: HubConfig, key: str) -> Any:
    """Return the value of a key. Raises `UserError` when it is missing or null."""
    if config.get(key) is None:
        raise UserError(f"config.json: key {key} is missing.")
    return config[key]


def refuse_unless(config: HubConfig, key: str, allowed: object) -> None:
    """Raise `UserError` when a key is there, not null, and not `allowed`."""
    value = config.get(key)
    if value is not None and value != allowed:
        raise UserError(f"config.json: {key}={_json(value)} is not supported. Allowed: {_json(allowed)}.")


def refuse_set(config: HubConfig, key: str) -> None:
    """Raise `UserError` when a key is there and neither null, false nor 0."""
    if config.get(key):
        raise UserError(f"config.json: {key}={_json(config[key])} is not supported. Allowed: false.")


def rope_section(config: HubConfig) -> dict[str, Any]:
    """Return `rope_parameters` (transformers 5) or `rope_scaling` (before), empty when the file has neither."""
    return dict(config.get("rope_parameters") or config.get("rope_scaling") or {})


def rope_theta(config: HubConfig) -> float:
    """Return theta, from the section or from the key `rope_theta`. Only of Llama a default is published: 10000."""
    theta = rope_section(config).get("rope_theta") or config.get("rope_theta")
    if theta is None and config.get("model_type") != "llama":
        raise UserError("config.json: key rope_theta is missing.")
    return float(theta or 10000.0)


def rotary_dim(config: HubConfig, head_dim: int) -> int | None:
    """Return the number of rotated dimensions of a head, None for all (`partial_rotary_factor`)."""
    factor = rope_section(config).get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    width = int(head_dim * factor)
    return None if width == head_dim else width


def yarn(config: HubConfig) -> Yarn | None:
    """Return the YaRN settings, None for a plain rotary embedding.

    Defaults as in transformers (`modeling_rope_utils._compute_yarn_parameters`): without `attention_factor` it follows
    from `mscale` and `mscale_all_dim`, or from the factor alone; without `original_max_position_embeddings` the trained
    window is `max_position_embeddings`. Raises `UserError` for any other scaling.
    """
    section = rope_section(config)
    kind = section.get("rope_type") or section.get("type") or "default"
    if kind == "default":
        return None
    if kind != "yarn":
        raise UserError(f"config.json: rope_type={kind} is not supported. Allowed: default, yarn.")
    original = section.get("original_max_position_embeddings") or required(config, "max_position_embeddings")
    factor = float(section.get("factor") or required(config, "max_position_embeddings") / original)
    attention_factor = section.get("attention_factor")
    if attention_factor is None:
        attention_factor = yarn_attention_factor(factor)
        if section.get("mscale") and section.get("mscale_all_dim"):
            whole = yarn_attention_factor(factor, section["mscale_all_dim"])
            attention_factor = yarn_attention_factor(factor, section["mscale"]) / whole
    return Yarn(
        factor=factor,
        original_positions=int(original),
        attention_factor=float(attention_factor),
        beta_fast=float(section.get("beta_fast") or 32.0),
        beta_slow=float(section.get("beta_slow") or 1.0),
        truncate=bool(section.get("truncate", True)),
    )


def max_positions(config: HubConfig) -> int:
    """Return the positions the checkpoint declares: under YaRN, the stretched window where that is the larger."""
    declared = int(required(config, "max_position_embeddings"))
    stretched = yarn(config)
    return declared if stretched is None else max(declared, round(stretched.original_positions * stretched.factor))


def _json(value: object) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
