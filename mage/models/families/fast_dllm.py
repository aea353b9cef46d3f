"""Fast-dLLM v2 (arXiv 2509.26328): Qwen2.5 with its names unchanged."""

from __future__ import annotations

from mage.models.families import qwen2
from mage.models.families.family import Family

FAMILIES = {"Fast_dLLM_Qwen": Family(qwen2.differences)}
