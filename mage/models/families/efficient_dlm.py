"""Efficient-DLM (arXiv 2512.14067): Qwen3 under a wrapper.

The `model_type` and the names are known from third parties alone (nace-ai/drex-dlm, `code/kev/model.py`): blocks are
named as in Qwen3, some copies with the wrapper's `encoder.` in front. Names with and without it are accepted.
"""

from __future__ import annotations

from mage.models.config import BodyConfig
from mage.models.families import qwen3
from mage.models.families.family import Family
from mage.models.layout import Layout, default_layout, with_aliases


def layout(body: BodyConfig) -> Layout:
    """Return the names of Qwen3, with those under the wrapper as aliases."""
    return with_aliases(default_layout(body), _wrapped)


def _wrapped(name: str) -> tuple[str, ...]:
    if name == "lm_head.weight":
        return ("encoder.lm_head.weight", "diffusion_head.weight")
    return (f"encoder.{name}", f"encoder.{name.removeprefix('model.')}")


FAMILIES = {"edlm": Family(qwen3.differences, layout)}
