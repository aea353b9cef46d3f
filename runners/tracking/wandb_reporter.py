"""The process that reports to Weights & Biases: whatever W&B does there, waits for or leaves behind, no cell waits.

`python -m runners.tracking.wandb_reporter` with a socket as its standard input, on which it reads jobs and answers, a
JSON object a line each. Trouble in mode `online` is answered as an outage and ends the process: what W&B leaves behind
of a run that could not begin keeps another of its id from beginning. Else it ends when the other side does, after its
jobs.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from runners.tracking.tracker import first_line
from runners.tracking.tracker_file import is_shown, remember, run_id, shown_alone
from runners.tracking.wandb_artifact import CELL_RECORD, FILES
from runners.tracking.wandb_runs import BRIEF, EXIT_CODES, WandbRuns

LAST_S = 60.0  # how long it may outlive the other side


class Reporter:
    """Carries out jobs: `cell`, `begin`, `progress`, `finish`."""

    def __init__(self, runs: WandbRuns) -> None:
        self._runs = runs
        self._sweep: Any = None

    def carry_out(self, job: Mapping[str, Any]) -> None:
        """Do one job. Raises what W&B raises."""
        getattr(self, f"_{job['kind']}")(**{key: value for key, value in job.items() if key != "kind"})

    def _cell(self, folder: str, record: Mapping[str, Any]) -> None:
        """Show a cell that has its record, unless another process has done so meanwhile."""
        place = Path(folder)
        with shown_alone(place):
            if not is_shown(place, record):
                self._show(place, record)

    def _show(self, place: Path, record: Mapping[str, Any]) -> None:
        """Open, fill and close the run of a cell."""
        shown_in = run_id(place, record)
        run = self._runs.open(
            BRIEF,
            id=shown_in,
            resume="allow",
            group=record["experiment"],
            name=record["name"],
            job_type=record["labels"]["runner"],
            config={
                **record["config"],
                "identity": record["identity"],
                "labels": record["labels"],
                "environment": record["environment"],
            },
        )
        try:
            self._fill(run, record, place)
        except Exception:
            run.finish(exit_code=1)
            raise
        run.finish(exit_code=EXIT_CODES.get(record["status"], 1))
        remember(place, shown_in, record)

    def _fill(self, run: Any, record: Mapping[str, Any], folder: Path) -> None:
        import wandb

        told = record["environment"]
        times = {"started": told["started"], "finished": told["finished"]}
        # An earlier attempt of the cell may have left its error in the run.
        run.summary.update({**record["metrics"], "status": record["status"], "error": record["error"] or "", **times})
        files = [folder / name for name in FILES if (folder / name).is_file()]
        if folder / FILES[0] in files:
            artifact = wandb.Artifact(f"cell-{record['identity']}", type=CELL_RECORD)
            for file in files:
                artifact.add_file(str(file), skip_cache=True)
            run.log_artifact(artifact)

    def _begin(self, run: str, name: str, cells: int) -> None:
        """Open the summary of a sweep. `run`: its id."""
        described = {"group": name, "name": f"sweep {name}", "job_type": "sweep", "config": {"cells": cells}}
        self._sweep = self._runs.open(BRIEF, id=run, resume="allow", **described)

    def _progress(self, counts: Mapping[str, int]) -> None:
        if self._sweep is not None:
            self._sweep.log(dict(counts))

    def _finish(self, columns: list[str | int], rows: list[Any], summary: Mapping[str, Any]) -> None:
        import wandb

        if self._sweep is None:  # it could not be opened
            return
        self._sweep.log({"cells": wandb.Table(columns=columns, data=rows, allow_mixed_types=True)})
        self._sweep.summary.update(dict(summary))
        self._close_sweep(summary["status"])

    def end(self) -> None:
        """Close what the other side left open."""
        if self._sweep is not None:
            self._sweep.summary.update({"status": "unfinished"})
            self._close_sweep("unfinished")

    def _close_sweep(self, status: str) -> None:
        run, self._sweep = self._sweep, None
        run.finish(exit_code=EXIT_CODES.get(status, 1))


def serve(connection: socket.socket) -> None:
    """Carry out the jobs that arrive: the first line says how runs are opened. Each job is answered when it is over."""
    jobs: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, jobs), daemon=True).start()

    def answer(**told: Any) -> None:
        with suppress(OSError):  # nobody listens any more; the jobs are done all the same
            connection.sendall(json.dumps(told).encode() + b"\n")

    how = jobs.get()
    if how is None:
        return
    runs = WandbRuns(**json.loads(how))
    reporter = Reporter(runs)
    while (line := jobs.get()) is not None:
        try:
            reporter.carry_out(json.loads(line))
        except Exception as error:  # whatever a server or its client may say
            answer(**{"outage" if runs.mode == "online" else "error": first_line(error)})
            if runs.mode == "online":
                os._exit(1)  # without W&B's own end, which waits for the server
        answer(over=1)
    reporter.end()


def _receive(connection: socket.socket, jobs: queue.SimpleQueue[bytes | None]) -> None:
    """Read ahead, so that the end of the other side is seen at once."""
    with connection.makefile("rb") as lines, suppress(OSError):
        for line in lines:
            jobs.put(line)
    jobs.put(None)
    last = threading.Timer(LAST_S, os._exit, (1,))
    last.daemon = True
    last.start()


def main() -> None:
    """Serve whoever started this process."""
    os.environ.pop("WANDB_SERVICE", None)  # of another process, which may end before this one
    serve(socket.socket(fileno=0))


if __name__ == "__main__":
    main()
