"""Examples that share a context: several questions about one text are not independent of each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tasks.task import CONTEXT


def contexts_of(labels: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The context of each example that names one, by example id, from the labels by example id."""
    return {example: str(own[CONTEXT]) for example, own in labels.items() if CONTEXT in own}


def in_order(examples: Iterable[str], contexts: Mapping[str, str]) -> list[str] | None:
    """The context of each of `examples`; None where none names one, so that all are independent."""
    return [contexts.get(example, example) for example in examples] if contexts else None
