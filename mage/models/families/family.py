"""What a family declares: how it differs from the plain Llama body, and how its files name the tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mage.models.config import BodyConfig
from mage.models.layout import Layout, default_layout

HubConfig = Mapping[str, Any]
"""The contents of a config.json."""


@dataclass(frozen=True)
class Family:
    """One `model_type`.

    differences: fields of `BodyConfig` by the config's own keys; they win over what all families read alike. layout:
    names and shapes of the hub's files.
    """

    differences: Callable[[HubConfig], dict[str, Any]]
    layout: Callable[[BodyConfig], Layout] = default_layout
