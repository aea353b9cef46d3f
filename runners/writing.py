"""Whether results can be written to a folder, tried before anything is computed for them."""

from __future__ import annotations

import os
import tempfile
from errno import EDQUOT, ENOSPC
from pathlib import Path

from mage.errors import UserError

FULL = (ENOSPC, EDQUOT)
"""A full disk refuses no cell beforehand: there may be room again when its results are written."""


def nearest(folder: Path) -> Path:
    """Return the folder or file that is there, `folder` or above it."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())


def check_writable(output_dir: str, experiment: str, field: str = "output_dir") -> None:
    """Raise `UserError` where no file and no folder can be made in the folder of an experiment, or in the nearest one
    above it that is there. `field`: what gave `output_dir`.

    It is tried, for permissions do not tell (/proc, a file system that is read-only), and nothing of it stays.
    """
    folder = Path(output_dir) / experiment
    try:
        folder = nearest(folder)  # a folder that may not be entered does not say what is in it
        with tempfile.TemporaryFile(dir=folder), tempfile.TemporaryDirectory(prefix=".trial-", dir=folder):
            pass
    except OSError as error:
        if error.errno in FULL:
            return
        told = f"{field}={output_dir}: nothing can be written into {folder} ({os.strerror(error.errno or 0)})."
        raise UserError(f"{told} Allowed: a folder that can be made.") from error
