"""Where weights are to come from, told by the text of `model.weights` alone. Imports nothing heavy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mage.errors import UserError

RANDOM = "random"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
ALLOWED = "a folder, a file.gguf, a hub name owner/name, or random"


@dataclass(frozen=True)
class Location:
    """`path` of a folder or a .gguf file; `name` of a hub repository; neither for random weights."""

    kind: Literal["folder", "gguf", "hub", "random"]
    path: Path = Path()
    name: str = ""


def locate(weights: str | Path, root: Path | None = None) -> Location:
    """Return where `weights` lie.

    A folder or file that exists wins, as seen from here or from `root`; then `random`; then a hub name. Raises
    `UserError` for what is none of them.
    """
    text = str(weights)
    for path in (Path(text), *([] if root is None else [root / text])):
        if path.is_dir():
            return Location("folder", path)
        if path.is_file():
            if path.suffix == ".gguf":
                return Location("gguf", path)
            raise UserError(f"model.weights={text}: not a checkpoint. Allowed: {ALLOWED}.")
    if text == RANDOM:
        return Location("random")
    if text.endswith(".gguf"):
        raise UserError(f"model.weights={text}: no such file.")
    if HUB_NAME.fullmatch(text) and not text.startswith((".", "~")):
        return Location("hub", name=text)
    raise UserError(f"model.weights={text}: no such checkpoint folder. Allowed: {ALLOWED}.")
