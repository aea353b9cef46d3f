"""The bar of what takes long: how much is done, and how long the rest may take."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def bar(console: Console, last_label: str) -> Progress:
    """Return a bar that shows itself on a terminal only, and is gone at its end. `last_label`: what its last number,
    the time that the rest may take, is called."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn(last_label),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
