"""Where a sweep prints: nobody need be reading."""

from __future__ import annotations

import os
import sys

from rich.console import Console

FILE_WIDTH = 240  # columns of output that goes to a file: no table is cut off there


class SweepConsole(Console):
    """A console that goes on in silence when whoever read it has gone: the sweep is worth more than its output."""

    def __init__(self) -> None:
        super().__init__(width=None if sys.stdout.isatty() else FILE_WIDTH)

    def on_broken_pipe(self) -> None:
        """See Console, which would end the process."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
