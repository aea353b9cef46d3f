"""Where a model comes from: its config, its tensors one by one, its own tokenizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from mage.errors import UserError
from mage.models.config import BodyConfig
from mage.models.families.registry import body_config, hub_layout
from mage.models.layout import HubTensor, by_file_name
from mage.models.tokenizer import Tokenizer


@dataclass(frozen=True)
class Stored:
    """A tensor as a header tells of it: the file, the name it has there, its shape."""

    file: Path
    name: str
    shape: tuple[int, ...]


class Source(ABC):
    """`place`: what messages call it. `config`: what a config.json holds; messages call it `config_name`."""

    place: str
    config_name: ClassVar[str] = "config.json"
    config: Mapping[str, Any]

    @abstractmethod
    def stored(self) -> dict[str, Stored]:
        """Return what the headers tell, by the names of the hub's files. Raises `UserError` for a damaged file."""

    @abstractmethod
    def tensors(self, device: torch.device, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
        """Read the tensors of `stored` one by one, for a body on `device` in `dtype`; they may lie elsewhere or have
        another dtype, whatever costs least. Raises `UserError` for a damaged file.
        """

    @abstractmethod
    def digest(self) -> str:
        """Return hex digits that change with any weight. What the config says beside them is no part of it."""

    @abstractmethod
    def tokenizer(self, options: Mapping[str, Any]) -> Tokenizer:
        """Return the checkpoint's own tokenizer. options: of its chat template. Raises `UserError`."""

    def name_of(self, hub_name: str) -> str:
        """Return the name that this source has for a tensor of the hub's files."""
        return hub_name


def check_source(source: Source) -> BodyConfig:
    """Compare the headers with what the config says, without reading any weight, and return the body.

    Raises `UserError` that names the first surplus, misshapen or missing tensor and its file.
    """
    told = source.config_name
    try:
        body = body_config(source.config)
        layout = hub_layout(source.config, body)
    except (AttributeError, TypeError, ValueError, ZeroDivisionError) as error:  # a number that is none
        raise UserError(f"{source.place}: a value of another type than expected in {told}: {error}.") from error
    except UserError as error:
        raise UserError(f"{source.place}: {str(error).replace('config.json', told)}") from error
    names = by_file_name(layout)
    missing = {name for name, tensor in layout.items() if not tensor.optional}
    for hub_name, found in source.stored().items():
        if hub_name not in names:
            raise UserError(f"{found.file}: tensor {found.name} is not part of this model.")
        wanted = layout[names[hub_name]].shape
        if found.shape != wanted:
            raise UserError(f"{found.file}: tensor {found.name} has shape {found.shape}, {told} says {wanted}.")
        missing.discard(names[hub_name])
    if missing:
        raise UserError(f"{source.place}: tensor {source.name_of(min(missing))} is missing from the weight files.")
    return body


def layout_of(source: Source, body: BodyConfig) -> dict[str, HubTensor]:
    """Return the places each tensor of the source fills, by any name that its files may use."""
    layout = hub_layout(source.config, body)
    return {alias: layout[name] for alias, name in by_file_name(layout).items()}
