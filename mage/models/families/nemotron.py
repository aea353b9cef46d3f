"""Nemotron-Labs-Diffusion (arXiv 2607.05722): Ministral 3 with the names of an encoder.

The `model_type` and the tensor names are known from third parties that read the checkpoints' headers (FluxServe's
loader tests, NVIDIA's TensorRT model plugin).
"""

from __future__ import annotations

from mage.models.config import BodyConfig
from mage.models.families import ministral3
from mage.models.families.family import Family
from mage.models.layout import Layout, default_layout, renamed


def layout(body: BodyConfig) -> Layout:
    """Return the hub's names: `encoder.` in place of `model.`, `diffusion_head` in place of `lm_head`."""
    return renamed(default_layout(body), _hub_name)


def _hub_name(name: str) -> str:
    if name == "lm_head.weight":
        return "diffusion_head.weight"
    return "encoder." + name.removeprefix("model.")


FAMILIES = {"nemotron_labs_diffusion": Family(ministral3.differences, layout)}
