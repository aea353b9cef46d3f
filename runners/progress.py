"""What a person sees of a sweep while it runs: a bar with the time left, and a line for each cell."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from runners.cell import Cell
from runners.record import CellRecord
from runners.variants import Variants


class SweepProgress:
    """A bar over all examples of a sweep that are still to be computed. Without a terminal: the lines only."""

    def __init__(self, console: Console, cells: Sequence[Cell], waiting: Sequence[Cell]) -> None:
        self._console, self._cells, self._seen = console, len(cells), len(cells) - len(waiting)
        self._variants = Variants(cells)
        self._began = time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
        )
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=sum(cell.settings.examples for cell in waiting))

    def __enter__(self) -> SweepProgress:
        if self._seen:
            self.say(f"{self._seen} of {self._cells} cells are finished already.")
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def begin(self, cell: Cell) -> None:
        """A cell starts."""
        self._began = time.monotonic()
        self._bar.update(self._task, description=escape(self._variants.title(cell)))

    def advance(self, examples: int) -> None:
        """That many examples more are done, or stand from an earlier run."""
        self._bar.update(self._task, advance=examples)

    def end(self, cell: Cell, record: CellRecord) -> None:
        """A cell was computed, or failed."""
        headline = cell.runner.headline
        told = f"{headline} {record.metrics[headline]:.3f}" if headline in record.metrics else _first_line(record)
        seconds = time.monotonic() - self._began
        self.finished(cell, f"{told}, {seconds:.1f} s")

    def finished(self, cell: Cell, told: str) -> None:
        """A cell needs no more work."""
        self._seen += 1
        self.say(f"[{self._seen}/{self._cells}] {self._variants.title(cell)}: {told}")


def _first_line(record: CellRecord) -> str:
    lines = (record.error or "").strip().splitlines()
    return f"{record.status}: {lines[-1]}" if lines else record.status
