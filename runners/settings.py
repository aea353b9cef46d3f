"""The top level of the config: its fields and what they may hold. Imports nothing heavy: a slip costs no time."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mage.budget import Budget
from mage.models.location import locate, locate_adapter
from runners.findings import check_integers, first_error, typed

ROOT = Path(__file__).resolve().parents[1]
RESERVED = ("reference", "wandb", "from-wandb")
"""Folders of outputs/ that are no experiment: results that ship, W&B's own files, what was read from W&B."""
LOCAL = {"_target_": "runners.launchers.local.Local"}


class ModelSettings(BaseModel):
    """conf/model: where the weights come from, how they are run, and how the model writes a block.

    `weights`: a folder, a file.gguf, one in a wheel, a hub name `owner/name`, or `random` (see `mage.models.location`).
    `revision`: of the hub. `tokenizer`: None (the checkpoint's own), `qwen`, `bytes`, a folder or a hub name.
    `adapter`: a folder (see `mage.models.adapter`), or None. `chat`: options of the chat template. `threads`: torch
    threads on a CPU; None: torch's own choice. `trained_positions`: the window the model was trained with; None: what
    its config says. `yarn`: factor by which YaRN stretches that window. `body`: the config.json of random weights. The
    others: see `mage.models.diffusion`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    weights: str = Field(min_length=1)
    revision: str | None = None
    tokenizer: str | None = None
    adapter: str | None = None
    chat: dict[str, Any] = Field(default_factory=dict)
    device: str = "cpu"
    dtype: str = "float32"
    threads: int | None = Field(default=None, ge=1, le=1024)
    block_size: int = Field(ge=1)
    mask_id: int = Field(ge=0)
    stop_ids: tuple[Annotated[int, Field(ge=0)], ...]
    alignment: Literal["same", "shifted"] = "same"
    prefix_attention: Literal["block_causal", "causal"] = "block_causal"
    anchored: bool = False
    delete_id: int | None = Field(default=None, ge=0)
    split_id: int | None = Field(default=None, ge=0)
    trained_positions: int | None = Field(default=None, ge=1)
    yarn: float | None = Field(default=None, gt=1, allow_inf_nan=False)
    body: dict[str, Any] = Field(default_factory=dict)

    @field_validator("device")
    @classmethod
    def _is_device(cls, name: str) -> str:
        """What it looks like; whether this machine has it is asked later."""
        if not re.fullmatch(r"cpu|cuda(:[0-9]{1,2})?", name):
            raise ValueError("not a device. Allowed: cpu, cuda, cuda:N")
        return name


class Settings(BaseModel):
    """A whole config. `method`, `task`, `decoding`, `runner` and `tracker` are built from their `_target_`.

    `attention`: what computes it, see `mage.attention.implementation`. `capture`: repeat forwards as CUDA graphs where
    there is a GPU, `fuse_commit`: make the commit of a block part of the next one's first step, see
    `mage.generation.engine`. `launcher`: where the cells are computed. `plan`: only show them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    output_dir: str = Field(min_length=1)
    seed: int = Field(ge=0)
    examples: int | None = Field(ge=1)  # None: the task's own number
    budget: Any
    dense_layers: int = Field(ge=0)
    dense_reference: bool
    attention: Literal["auto", "torch", "triton"] = "auto"
    capture: bool = True
    fuse_commit: bool = False
    model: ModelSettings
    method: dict[str, Any]
    task: dict[str, Any]
    decoding: dict[str, Any]
    runner: dict[str, Any]
    tracker: dict[str, Any]
    launcher: dict[str, Any] = Field(default_factory=lambda: dict(LOCAL))
    plan: bool = False

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name.casefold() in RESERVED:
            raise ValueError(f"a folder that is no experiment. Allowed: any name but {', '.join(RESERVED)}")
        return name


def read_settings(config: Mapping[str, Any]) -> tuple[Settings, Budget]:
    """Validate a resolved config. Raises `UserError` that names the field, its value and what is allowed."""
    check_integers(config)
    try:  # as JSON: a list is a tuple there, yet true is no 1 and '1' is no 1
        settings = Settings.model_validate_json(json.dumps(config), strict=True)
    except ValidationError as error:
        raise first_error(error, Settings) from error
    budget = settings.budget
    if isinstance(budget, bool) or not isinstance(budget, int | float) or not math.isfinite(budget):
        budget = typed(budget)  # which says how it is written, and is no budget either
    return settings, Budget(budget)


def check_location(settings: Settings) -> None:
    """Raise `UserError` when `model.weights` is no place that weights can come from, `model.adapter` no folder."""
    locate(settings.model.weights, ROOT)
    if settings.model.adapter is not None:
        locate_adapter(settings.model.adapter, ROOT)
