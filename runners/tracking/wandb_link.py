"""The sweep's end of the line to the process that reports to Weights & Biases."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runners.tracking.wandb_runs import Mode

ROOT = Path(__file__).resolve().parents[2]
START_S = 30.0  # for a process to start and import wandb, beyond what W&B itself may take
BLOCK = 65536


class WandbLink:
    """Hands jobs to a process of its own, see `runners.tracking.wandb_reporter`. No method but `wait` and `end` waits.

    how: the fields of `WandbRuns`. When the server cannot be had, this is said once, and another process does offline
    what is not over. What is to be said is said in the thread that calls a method.
    """

    def __init__(self, how: Mapping[str, Any], say: Callable[[str], None]) -> None:
        self.say = say
        self._how = dict(how)
        self._patience = START_S + 4 * float(how["timeout_s"])
        self._waiting: deque[tuple[str, bytes]] = deque()  # jobs that are not over, and their lines
        self._sweep = b""  # the line that opened the sweep, which is open
        self._told_error = False
        self._start()

    @property
    def mode(self) -> Mode:
        """Where runs go by now."""
        return self._how["mode"]

    def give(self, kind: str, **job: Any) -> None:
        """Hand over a job. Raises `ConnectionError` when the process is gone."""
        line = json.dumps({"kind": kind, **job}).encode() + b"\n"
        self._waiting.append((kind, line))
        self._unsent += line
        self._exchange(0)

    def wait(self) -> None:
        """Wait until all jobs are over, each within bounds. Raises `ConnectionError` when they are not."""
        left, since = len(self._waiting), time.monotonic()
        while self._waiting:
            rest = since + self._patience - time.monotonic()
            if rest > 0:
                self._exchange(rest)
            else:
                self._lose(f"no answer for {self._patience:g} s, {left} reports are missing")
            if rest <= 0 or len(self._waiting) != left:
                left, since = len(self._waiting), time.monotonic()

    def end(self) -> None:
        """Wait, then let the process end: W&B writes the last of its files there. Raises as `wait` does."""
        try:
            self.wait()
            self._socket.shutdown(socket.SHUT_WR)
            self._process.wait(self._patience)
        except subprocess.TimeoutExpired:
            self.say("W&B did not end and was stopped; its last runs may lack their ends.")
        finally:
            self._stop()

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._received = b""
        self._unsent = json.dumps(self._how).encode() + b"\n"
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        with theirs:
            # A session of its own: what a user interrupts is the sweep.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "runners.tracking.wandb_reporter"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,
            )
        self._socket.setblocking(False)

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._socket.close()

    def _lose(self, why: str) -> None:
        if self.mode == "offline":
            raise ConnectionError(why)
        self._go_offline(why)

    def _go_offline(self, why: str) -> None:
        """Do again, offline and in a process that knows nothing of the server, what is not over."""
        self.say(outage(why, self._how["dir"]))
        self._stop()
        self._how["mode"] = "offline"
        self._start()
        lines = [line for _, line in self._waiting]
        if self._sweep and self._sweep not in lines:
            self._unsent += self._sweep
            self._waiting.appendleft(("begin", self._sweep))
        self._unsent += b"".join(lines)

    def _exchange(self, wait_s: float) -> None:
        """Send what the line takes and read what has arrived, waiting up to `wait_s` for either."""
        readable, writable, _ = select.select([self._socket], [self._socket] if self._unsent else [], [], wait_s)
        received = None
        try:
            if readable:
                received = self._socket.recv(BLOCK)
            elif writable:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except OSError:  # it ended with jobs unread
            received = b""
        if received is None:
            return
        if not received:
            self._lose("the process that reports to W&B is gone")
        *lines, self._received = (self._received + received).split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def _take(self, answer: Mapping[str, Any]) -> None:
        if "outage" in answer:
            self._go_offline(answer["outage"])
        elif "over" in answer:
            kind, line = self._waiting.popleft()
            if kind in ("begin", "finish"):
                self._sweep = line if kind == "begin" else b""
        elif not self._told_error:
            self._told_error = True
            told = answer["error"].rstrip(".")
            self.say(f"W&B: {told}. Some runs are not tracked; their records are written all the same.")


def outage(why: str, folder: str) -> str:
    """Say that runs go on offline."""
    return f"W&B: {why.rstrip('.')}. Runs go on offline; `wandb sync {folder}/wandb` uploads them later."
