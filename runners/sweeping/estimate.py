"""What `plan=true` shows: the cells of a sweep, what stands of them, and how long the rest may take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runners.cell import Cell
from runners.store.place import Place
from runners.store.store import DamagedError, Store, read_record
from runners.sweeping.grouping import groups_of
from runners.sweeping.past import Past
from runners.variants import Variants
from tasks.errors import TaskError

KINDS = ("finished", "running", "begun", "to do", "failed")
NAMED = 3  # cells without a past that are named


@dataclass(frozen=True)
class Standing:
    """How far a cell is. `done` of `examples` stand (None: nobody can tell how many there are). `failed`: the status of
    its last attempt, where that failed. `running`: whether another process computes it now."""

    cell: Cell
    done: int
    examples: int | None
    finished: bool
    failed: str = ""
    running: bool = False

    @property
    def left(self) -> int | None:
        """The examples that are to be computed."""
        return 0 if self.finished else None if self.examples is None else max(0, self.examples - self.done)

    @property
    def kind(self) -> str:
        """finished, running, failed, begun or to do."""
        if self.finished:
            return "finished"
        if self.running:
            return "running"
        return "failed" if self.failed else "begun" if self.done else "to do"

    @property
    def told(self) -> str:
        """Its state in a few words."""
        if self.finished:
            return "finished"
        of = f"of {'?' if self.examples is None else self.examples}"
        if self.running:
            return f"running: {self.done} {of}"
        if self.failed:
            return f"last failed: {self.failed}, {self.done} {of}"
        return f"begun: {self.done} {of}" if self.done else f"to do: {self.examples or 'all'}"


def show_plan(console: Console, cells: Sequence[Cell], finished: Sequence[Cell]) -> None:
    """Print the cells, how they are grouped for a shared prefill, and the time that past records tell.

    Nothing is written or loaded. cells: in the order of the sweep. finished: those of them with a record.
    """
    past = Past(sorted({Path(cell.settings.output_dir) for cell in cells}))
    done = {cell.folder for cell in finished}
    standing = {cell.folder: _standing(cell, cell.folder in done, past) for cell in cells}
    groups = groups_of([cell for cell in cells if cell.folder not in done])
    numbers = {cell.folder: number for number, group in enumerate(groups, 1) for cell in group}
    console.print(_table(cells, standing, numbers))
    kinds = Counter(one.kind for one in standing.values())
    told = ", ".join(f"{kinds[kind]} {kind}" for kind in KINDS if kinds[kind])
    shared = f" Prefills are shared within {_counted(len(groups), 'group')}." if groups else ""
    console.print(f"{_counted(len(cells), 'cell')}: {told}.{shared}", highlight=False)
    for line in estimate(groups, standing, past, Variants(cells)):
        console.print(escape(line), highlight=False, soft_wrap=True)
    console.print("plan=true: nothing was computed.", highlight=False)


def estimate(
    groups: Sequence[Sequence[Cell]], standing: Mapping[Path, Standing], past: Past, variants: Variants
) -> list[str]:
    """Say how long the cells of groups take in one process: a prefill an example and group, the answers of each cell.

    Cells without a past are counted, not guessed.
    """
    prefill = decode = 0.0
    near, unknown = 0, []
    for group in groups:
        left = [standing[cell.folder].left for cell in group]
        read = past.prefill(group[0])
        for cell, count in zip(group, left, strict=True):
            written = past.decode(cell)
            if read is None or written is None or count is None:
                unknown.append(cell)
                continue
            decode += written.seconds * count
            near += written.near or read.near
        if read is not None:
            prefill += read.seconds * max((count for count in left if count is not None), default=0)
    known = sum(map(len, groups)) - len(unknown)
    lines = []
    if known:
        lines.append(
            f"About {_duration(prefill + decode)} in one process, as past records tell: prefill {_duration(prefill)}, "
            f"decoding {_duration(decode)}, {_counted(known, 'cell')}."
        )
    if near:
        lines.append(f"{near} of them by the nearest past, which had another method, budget or options.")
    if unknown:
        names = ", ".join(variants.title(cell) for cell in unknown[:NAMED])
        more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
        why = "no past record of such a model, task, decoding and device"
        lines.append(f"No estimate for {_counted(len(unknown), 'cell')}, {why}: {names}{more}.")
    return lines


def _standing(cell: Cell, finished: bool, past: Past) -> Standing:
    try:
        record = read_record(cell.folder)
    except (OSError, DamagedError):
        record = None
    if finished:
        whole = record.examples.count if record and record.examples else 0
        return Standing(cell, whole, whole, finished)
    failed = record.status if record and record.status != "done" else ""
    count = past.examples(cell) or _examples(cell)
    done = Store(cell.folder, cell.runner.row_type).standing(cell.identity, count, cell.runner.group_size)
    running = Place(cell.folder).owner is not None
    return Standing(cell, done, count, finished, failed, running)


def _examples(cell: Cell) -> int | None:
    """Return how many examples a cell asks for; the task's own number is that of those it makes."""
    if cell.task is None or cell.settings.examples is not None:
        return cell.settings.examples if cell.task is not None else None
    try:
        made = cell.task.examples(cell.checkpoint.tokenizer, None, cell.settings.seed, cell.settings.model.block_size)
    except TaskError:
        return None
    return len(made)


def _table(cells: Sequence[Cell], standing: Mapping[Path, Standing], numbers: Mapping[Path, int]) -> Table:
    variants = Variants(cells)
    table = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column("prefill", justify="right")
    for head in ("method", "budget", "task", *variants.columns.values(), "state"):
        table.add_column(escape(head), no_wrap=True)
    for cell in cells:
        number = numbers.get(cell.folder)
        names = (*cell.shown, *variants.values(cell), standing[cell.folder].told)
        table.add_row("" if number is None else str(number), *map(escape, names))
    return table


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _duration(seconds: float) -> str:
    """Return a time for a person."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"
