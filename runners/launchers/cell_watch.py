"""What jobs have got done, read from the folders of their cells: the records there are the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from runners.cell import Cell
from runners.record import EXAMPLES_NAME, RECORD_NAME, CellRecord
from runners.store.store import Store
from runners.sweeping.outcome import ELSEWHERE, Outcome
from runners.sweeping.stamp import stamp_of


class CellWatch:
    """Follows cells that other processes compute. The record of an earlier attempt, which failed, is no news."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._open = {cell.folder: cell for cell in cells}
        self._before = {folder: stamp_of(folder) for folder in self._open}
        self._read = {folder: (0, 0) for folder in self._open}
        for folder in self._open:
            self._count(folder)

    def is_open(self, cell: Cell) -> bool:
        """Whether the cell has not ended yet."""
        return cell.folder in self._open

    def rows(self, cell: Cell) -> int:
        """How many examples of the cell stood at the last look."""
        return self._read[cell.folder][1]

    def look(self) -> tuple[list[Outcome], int]:
        """Return how cells ended since the last look, and how many examples were added to all."""
        ended, more = [], 0
        for folder, cell in list(self._open.items()):
            before = self.rows(cell)
            self._count(folder)
            more += max(self.rows(cell) - before, 0)
            if stamp_of(folder) not in (None, self._before[folder]) and (record := _ending(cell)):
                ended.append(Outcome(cell, record, computed=True))
                del self._open[folder]
        return ended, more

    def close(self, cell: Cell, note: str) -> Outcome:
        """Stop following a cell that no job computes any more; another run may have finished it before."""
        del self._open[cell.folder]
        record = Store(cell.folder, cell.runner.row_type).finished(cell.identity)
        return Outcome(cell, record, computed=False, note=ELSEWHERE if record else note)

    def _count(self, folder: Path) -> None:
        """Count the lines of the examples, from where the last look ended: a file that was cut is read anew."""
        try:
            with (folder / EXAMPLES_NAME).open("rb") as file:
                end, rows = self._read[folder]
                if file.seek(0, 2) < end:
                    end, rows = 0, 0
                file.seek(end)
                added = file.read()
        except OSError:
            return
        whole = added.rfind(b"\n") + 1
        self._read[folder] = end + whole, rows + added.count(b"\n")


def _ending(cell: Cell) -> CellRecord | None:
    """Return the record of a cell that is done as it says, or has failed."""
    try:
        record = CellRecord.model_validate_json((cell.folder / RECORD_NAME).read_bytes())
    except (OSError, ValidationError):
        return None
    if record.identity != cell.identity:
        return None
    return Store(cell.folder, cell.runner.row_type).finished(cell.identity) if record.status == "done" else record
