"""tracker.json in a cell's folder: which run shows the cell, and which of its records was shown there last."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TRACKER_NAME = "tracker.json"


def run_id(folder: Path) -> str:
    """Return the id of the cell's run: the one that stands there, so that a cell tried again continues its run, or a
    new one, which is kept unless the folder cannot be written."""
    found = _read(folder).get("run")
    if isinstance(found, str) and found:
        return found
    new = new_id()
    _write(folder, {"run": new})
    return new


def new_id() -> str:
    """Return an id for a run that nobody has used."""
    return uuid.uuid4().hex[:16]


def remember(folder: Path, run: str, record: Mapping[str, Any]) -> None:
    """Note that `record` was shown in `run`."""
    _write(folder, {"run": run, "shown": _mark(record)})


def is_shown(folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether this very record was shown."""
    return _read(folder).get("shown") == _mark(record)


def _mark(record: Mapping[str, Any]) -> dict[str, Any]:
    """Tell attempts apart. `record`: as JSON."""
    return {"status": record["status"], **{name: record["environment"][name] for name in ("started", "finished")}}


def _read(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / TRACKER_NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(folder: Path, content: Mapping[str, Any]) -> None:
    """Write atomically. What cannot be written is no loss of a result."""
    temporary = folder / f"{TRACKER_NAME}.{os.getpid()}.tmp"
    try:
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
        os.replace(temporary, folder / TRACKER_NAME)
    except OSError:
        temporary.unlink(missing_ok=True)
