"""Launchers that have the cells computed by other processes: what a job is, and who starts and stops them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runners.launchers.launcher import Launcher
from runners.settings import ROOT

if TYPE_CHECKING:
    from runners.cell import Cell
    from runners.sweeping.audience import Audience


@dataclass(frozen=True)
class End:
    """How a job ended, in words. `died`: it was killed, or its machine failed, and may be started again."""

    told: str
    died: bool = False


class Job(ABC):
    """One part of a sweep, computed by another process. `log` is where that prints."""

    title: str
    log: Path

    @abstractmethod
    def end(self) -> End | None:
        """How it ended; None while it is at work, or waits for a machine."""


class Crew(ABC):
    """Starts the jobs of a sweep and stops them. `poll_s`: how often to look at them."""

    poll_s: float = 0.5

    @abstractmethod
    def start(self, parts: Sequence[Path]) -> list[Job]:
        """Start a job for each part file. Raises `UserError` when none can be started."""

    @abstractmethod
    def stop(self) -> None:
        """End all jobs in order, whatever they are at. Returns when they are gone."""

    def look(self) -> str:
        """Look at all jobs. Returns what a person should know of them now, such as how many wait for a machine."""
        return ""


class JobLauncher(Launcher):
    """Shares the cells out among jobs and follows what these leave in the folders of their cells."""

    @abstractmethod
    def count(self, cells: Sequence[Cell]) -> int:
        """How many jobs at most."""

    @abstractmethod
    def crew(self, folder: Path, cells: Sequence[Cell], jobs: int) -> Crew:
        """Return who starts the `jobs`. `folder`: of part files and logs."""

    def launch(self, cells: Sequence[Cell], audience: Audience) -> None:
        """See Launcher. The jobs track their cells themselves."""
        from runners.environment import now
        from runners.launchers.supervisor import Supervisor
        from runners.sweeping.parts import parts_of

        self.check(cells)
        parts = parts_of(cells, self.count(cells))
        stamp = "".join(c for c in now()[:19] if c.isdigit())
        folder = (cells[0].folder.parent / ".jobs" / f"{stamp}-{os.getpid()}").resolve()
        supervisor = Supervisor(self.crew(folder, cells, len(parts)), folder, parts, audience)
        supervisor.start()
        if self.waits:
            supervisor.follow()


def importable() -> str:
    """Return a PYTHONPATH under which another process finds this code, wherever it starts."""
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
