"""What a person sees of a sweep while it runs: a bar with the time left, and a line for each cell."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.markup import escape

from runners.bar import bar
from runners.cell import Cell
from runners.record import CellRecord
from runners.variants import Variants

TOLD_EVERY_S = 30.0  # without a terminal: how often running cells say how far they are


class SweepProgress:
    """A bar over all examples of a sweep that are still to be computed. Without a terminal: lines only, also for
    the start of cells and for their examples.
    """

    def __init__(self, console: Console, cells: Sequence[Cell], waiting: Sequence[Cell]) -> None:
        self._console, self._cells, self._seen = console, len(cells), len(cells) - len(waiting)
        self._variants = Variants(cells)
        self._began = self._told = time.monotonic()
        self._asked = self._done = self._computed = 0
        self._held: list[str] | None = []  # None once something was begun, or said
        self._bar = bar(console, "left")
        self._task = self._bar.add_task("", total=sum(cell.settings.examples or 0 for cell in waiting))

    def __enter__(self) -> SweepProgress:
        if self._seen:
            self.note(f"{self._seen} of {self._cells} cells are finished already.")
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if error is None:
            self._release()

    def note(self, text: str) -> None:
        """Print a line before the first thing that is said or begun: none where a launcher refuses the cells."""
        if self._held is None:
            self.say(text)
        else:
            self._held.append(text)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._release()
        self._print(text)

    def _release(self) -> None:
        held, self._held = self._held, None
        for text in held or ():
            self._print(text)

    def _print(self, text: str) -> None:
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def begin(self, cells: Sequence[Cell], named: str = "") -> None:
        """Cells start that are computed together, or by jobs as `named`."""
        self._release()
        self._began = self._told = time.monotonic()
        self._asked = self._done = self._computed = 0
        first = self._variants.title(cells[0])
        told = named or (first if len(cells) == 1 else f"{len(cells)} cells together, from {first}")
        self._group = f"{self._place(len(cells))} {told}"
        if not self._console.is_terminal:
            self.say(f"{self._group} ...")
        self._bar.update(self._task, description=escape(told))

    def expect(self, cell: Cell, examples: int, standing: int) -> None:
        """A cell that began has that many examples, of which some stand: a task may have fewer than was asked for."""
        assert self._bar.tasks[0].total is not None
        more = examples - (cell.settings.examples or 0)
        self._bar.update(self._task, total=self._bar.tasks[0].total + more, advance=standing)
        self._asked += examples
        self._done += standing

    def advance(self, examples: int) -> None:
        """That many examples more are computed."""
        self._bar.update(self._task, advance=examples)
        self._done += examples
        self._computed += examples
        now = time.monotonic()
        if self._console.is_terminal or not self._computed or now - self._told < TOLD_EVERY_S:
            return
        self._told = now
        left = (now - self._began) / self._computed * (self._asked - self._done)
        # Jobs on other machines do not tell how many examples a task has.
        known = f"/{self._asked} examples, about {left:.0f} s left" if self._asked >= self._done else " examples"
        self.say(f"{self._group}: {self._done}{known}")

    def drop(self, examples: int) -> None:
        """That many examples need not be computed any more: their cell has ended."""
        assert self._bar.tasks[0].total is not None
        self._bar.update(self._task, total=self._bar.tasks[0].total - examples)
        self._asked -= examples

    def end(self, cell: Cell, record: CellRecord, seconds: float | None = None) -> None:
        """A cell was computed, or failed, after so many seconds of its own, where they are known."""
        headline = cell.runner.headline
        told = f"{headline} {record.metrics[headline]:.3f}" if headline in record.metrics else _first_line(record)
        self.finished(cell, told if seconds is None else f"{told}, {seconds:.1f} s")

    def finished(self, cell: Cell, told: str) -> None:
        """A cell needs no more work."""
        self.say(f"{self._place(1)} {self._variants.title(cell)}: {told}")
        self._seen += 1

    def _place(self, cells: int) -> str:
        """Say which cells of the sweep the next ones are."""
        first = self._seen + 1
        return f"[{first}/{self._cells}]" if cells == 1 else f"[{first}-{self._seen + cells}/{self._cells}]"


def _first_line(record: CellRecord) -> str:
    lines = (record.error or "").strip().splitlines()
    return f"{record.status}: {lines[-1]}" if lines else record.status
