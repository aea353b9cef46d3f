"""Where weights are to come from, told by the text of `model.weights` alone. Imports nothing heavy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mage.errors import UserError

RANDOM = "random"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
PYPI = "pypi:"
PYPI_FILE = re.compile(
    r"pypi:(?P<project>[\w.-]+)==(?P<version>[\w.+!-]+)/(?P<member>[^#]+\.gguf)#sha256=(?P<sha256>[0-9a-f]{64})",
    re.ASCII,
)
PYPI_FORM = f"{PYPI}project==version/path/in/the/wheel.gguf#sha256=digest"
ALLOWED = f"a folder, a file.gguf, a hub name owner/name, {PYPI_FORM}, or random"


@dataclass(frozen=True)
class WheelFile:
    """A .gguf file in a wheel of the package index: `member`, its path there, and the SHA-256 of its content."""

    project: str
    version: str
    member: str
    sha256: str

    def __str__(self) -> str:
        return f"{PYPI}{self.project}=={self.version}/{self.member}"


@dataclass(frozen=True)
class Location:
    """`path` of a folder or a .gguf file; `name` of a hub repository; `wheel`; nothing for random weights."""

    kind: Literal["folder", "gguf", "hub", "pypi", "random"]
    path: Path = Path()
    name: str = ""
    wheel: WheelFile | None = None


def locate_adapter(adapter: str | Path, root: Path | None = None) -> Path:
    """Return the folder of an adapter, as seen from here or from `root`. Raises `UserError`."""
    for path in (Path(adapter), *([] if root is None else [root / adapter])):
        if path.is_dir():
            return path
    raise UserError(f"model.adapter={adapter}: no such folder. Allowed: null, a folder.")


def locate(weights: str | Path, root: Path | None = None) -> Location:
    """Return where `weights` lie.

    What begins with `pypi:` is a file in a wheel. Otherwise a folder or file that exists wins, as seen from here or
    from `root`; then `random`; then a hub name. Raises `UserError` for what is none of them.
    """
    text = str(weights)
    if text.startswith(PYPI):
        found = PYPI_FILE.fullmatch(text)
        if found is None:
            raise UserError(f"model.weights={text}: not a file of a wheel. Allowed: {PYPI_FORM} (64 hex digits).")
        return Location("pypi", wheel=WheelFile(**found.groupdict()))
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
