"""The order in which methods and budgets appear in every table and figure."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

METHODS = (
    *("dense", "oracle", "mage", "mage_v1", "quest", "tidal_decode", "sparse_d", "flash_block"),
    *("snapkv_query", "snapkv", "streaming_llm", "random"),
)


def method_order(methods: Iterable[str]) -> list[str]:
    """Known methods first, as they are discussed; then the others by name. A variant follows its method."""

    def rank(method: str) -> tuple[int, str]:
        base = base_method(method)
        return (METHODS.index(base) if base in METHODS else len(METHODS), method)

    return sorted(set(methods), key=rank)


def base_method(method: str) -> str:
    """`mage` for `mage (commit=sparse)`; so of any label."""
    return method.partition(" (")[0]


def budget_order(points: pd.DataFrame) -> list[str]:
    """Labels of the budgets of `points`: tokens first, then shares of the prefix, each rising."""
    keys = zip(points.budget_unit == "share", points.budget, strict=True)
    found = dict(zip(points.budget_label, keys, strict=True))
    return sorted(found, key=lambda label: found[label])
