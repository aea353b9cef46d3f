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

TOLD_EVERY_S = 30.0  # without a terminal: how often a running cell says how far it is


class SweepProgress:
    """A bar over all examples of a sweep that are still to be computed. Without a terminal: lines only, also for
    the start of a cell and for its examples.
    """

    def __init__(self, console: Console, cells: Sequence[Cell], waiting: Sequence[Cell]) -> None:
        self._console, self._cells, self._seen = console, len(cells), len(cells) - len(waiting)
        self._variants = Variants(cells)
        self._began = self._told = time.monotonic()
        self._cell: Cell | None = None
        self._done = self._computed = 0
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
        )
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=sum(cell.settings.examples or 0 for cell in waiting))

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
        self._began = self._told = time.monotonic()
        self._cell, self._done, self._computed = cell, 0, 0
        self._total = cell.settings.examples or 0
        if not self._console.is_terminal:
            self.say(f"{self._place(cell)} ...")
        self._bar.update(self._task, description=escape(self._variants.title(cell)))

    def expect(self, examples: int) -> None:
        """The cell that began has that many examples: a task may have fewer than the config asks for."""
        assert self._bar.tasks[0].total is not None
        self._bar.update(self._task, total=self._bar.tasks[0].total + examples - self._total)
        self._total = examples

    def advance(self, examples: int, *, computed: bool = True) -> None:
        """That many examples more are done; `computed` is False when they stand from an earlier run."""
        self._bar.update(self._task, advance=examples)
        self._done += examples
        self._computed += examples if computed else 0
        now = time.monotonic()
        if self._cell is None or self._console.is_terminal or not self._computed or now - self._told < TOLD_EVERY_S:
            return
        self._told = now
        total = self._total
        left = (now - self._began) / self._computed * (total - self._done)
        self.say(f"{self._place(self._cell)}: {self._done}/{total} examples, about {left:.0f} s left")

    def end(self, cell: Cell, record: CellRecord) -> None:
        """A cell was computed, or failed."""
        headline = cell.runner.headline
        told = f"{headline} {record.metrics[headline]:.3f}" if headline in record.metrics else _first_line(record)
        seconds = time.monotonic() - self._began
        self.finished(cell, f"{told}, {seconds:.1f} s")

    def finished(self, cell: Cell, told: str) -> None:
        """A cell needs no more work."""
        self.say(f"{self._place(cell)}: {told}")
        self._seen += 1

    def _place(self, cell: Cell) -> str:
        return f"[{self._seen + 1}/{self._cells}] {self._variants.title(cell)}"


def _first_line(record: CellRecord) -> str:
    lines = (record.error or "").strip().splitlines()
    return f"{record.status}: {lines[-1]}" if lines else record.status
