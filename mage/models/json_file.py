"""JSON files of a checkpoint: each holds one object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mage.errors import UserError


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises `UserError` that names the file."""
    if not path.is_file():
        raise UserError(f"{path}: the file is missing.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object.")
    return content
