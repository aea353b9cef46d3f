"""A job: one part of a sweep, computed in a process of its own: `python -m runners.sweeping.job PART.json`."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from mage.errors import UserError
from runners.cell import Cell, read_cell
from runners.record import EXAMPLES_NAME
from runners.store.durability import replace
from runners.sweeping.limits import Terminated, terminable

FOLLOW = "--follow"
GRACE_S = 20.0  # how long a job may take to end in order
LOG_WIDTH = 120  # columns


def write_part(path: Path, cells: Sequence[Cell]) -> None:
    """Write what a job needs to compute `cells`, atomically. Raises `UserError` where that cannot be written."""
    part = {
        "folder": os.getcwd(),  # what relative paths in configs start from
        "cells": [
            {"identity": cell.identity, "folder": str(cell.folder), "config": dict(cell.given)} for cell in cells
        ],
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, json.dumps(part).encode())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; jobs read there what they are to compute.") from error


def bytes_done(path: Path) -> int:
    """Return how many bytes of examples the cells of a part have: a number that grows with each example."""
    part = json.loads(path.read_bytes())
    files = (Path(part["folder"]) / cell["folder"] / EXAMPLES_NAME for cell in part["cells"])
    return sum(file.stat().st_size for file in files if file.exists())


def run_part(path: Path) -> int:
    """Compute the cells of a part. Returns 0, or 1 when one of them is not done; their records say the rest.

    Raises `UserError` when this machine cannot compute them, or would compute other cells than were planned.
    """
    from rich.console import Console

    from runners.building import build
    from runners.feasibility import check_machine
    from runners.sweeping.audience import Audience
    from runners.sweeping.outcome import Outcome, exit_status
    from runners.sweeping.progress import SweepProgress
    from runners.sweeping.worker import Worker
    from runners.tracking.tracker import Guarded

    part = json.loads(path.read_bytes())
    os.chdir(part["folder"])
    cells = []
    for planned in part["cells"]:
        cell = read_cell(planned["config"])
        check_machine(cell.settings.model)
        if cell.identity != planned["identity"]:
            raise UserError(
                f"{cell.name}: not the cell that was planned, {planned['identity']}: weights or data changed since, "
                "or this machine is of another kind (name attention=torch or attention=triton)."
            )
        cells.append(cell)
    print(_whereabouts(), flush=True)
    outcomes: list[Outcome] = []
    tracker = Guarded(build("tracker", cells[0].settings.tracker))
    with SweepProgress(Console(width=LOG_WIDTH), cells, cells) as progress:
        Worker(cells, Audience(tracker, progress, outcomes.append)).run()
    return int(len(outcomes) < len(cells) or exit_status(outcomes))


def main(arguments: Sequence[str]) -> int:
    """Compute a part and return the exit status: 0, 1 (a cell is not done), 2 (refused), 130 or 143 (by a signal).

    With `--follow` the job ends with the process that started it: when its standard input closes.
    """
    if FOLLOW in arguments[1:]:
        threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        with terminable():
            return run_part(Path(arguments[0]))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except Terminated:
        print("Terminated.", file=sys.stderr)
        return 143


def _whereabouts() -> str:
    """Say which process this is and what it may use: the first line of a log."""
    said = [f"process {os.getpid()} on {socket.gethostname()}"]
    said += [f"{name}={os.environ[name]}" for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS") if name in os.environ]
    return ", ".join(said)


def _end_with_input() -> None:
    """Wait until whoever started this process is gone, however it went: the kernel then closes the pipe."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
