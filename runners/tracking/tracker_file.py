"""tracker.json in a cell's folder: which run shows the cell, and which of its records was shown there last."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from runners.store.durability import replace

TRACKER_NAME = "tracker.json"


@contextmanager
def shown_alone(folder: Path) -> Iterator[None]:
    """Wait until no other process shows the cell, and keep others waiting: W&B would name two runs' files alike."""
    descriptor = None
    try:
        with suppress(OSError):  # no locks there: what is shown twice is no loss
            descriptor = os.open(folder, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def run_id(folder: Path, record: Mapping[str, Any]) -> str:
    """Return the id of the run that shows a cell: the one that stands there, so that a cell tried again continues its
    run, or a new one. All who show the same record at once, as JSON, get the same."""
    found = _read(folder).get("run")
    if isinstance(found, str) and found:
        return found
    told = json.dumps([str(folder), record["identity"], record["environment"]], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def new_id() -> str:
    """Return an id for a run that nobody has used."""
    return uuid.uuid4().hex[:16]


def remember(folder: Path, run: str, record: Mapping[str, Any]) -> None:
    """Note that `record` was shown in `run`."""
    content = json.dumps({"run": run, "shown": _mark(record)}).encode() + b"\n"
    with suppress(OSError):  # what cannot be written is no loss of a result
        replace(folder / TRACKER_NAME, content)


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
