"""Who holds a cell, for the message to whoever waits."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from pydantic import BaseModel, ValidationError


class Owner(BaseModel):
    """A process."""

    pid: int
    host: str


class LockedError(Exception):
    """The cell is being computed by another process."""

    def __init__(self, owner: Owner | None) -> None:
        self.owner = owner
        super().__init__(f"held by process {owner.pid} on {owner.host}" if owner else "held by another process")


def this_process() -> bytes:
    """Return what this process writes into a file that it owns."""
    return Owner(pid=os.getpid(), host=socket.gethostname()).model_dump_json().encode()


def read_owner(path: Path) -> Owner | None:
    """Return who wrote the file; None where it is not written yet, or removed since."""
    try:
        return Owner.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
