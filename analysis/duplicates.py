"""Cells that were computed twice, with more examples the second time: the larger one counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.variants import LABELS, flat, varying
from mage.errors import UserError
from runners.identity import IGNORED
from runners.record import CellRecord

# The checkpoint's path is no option, but two paths may hold different weights.
IRRELEVANT = tuple(name for name in IGNORED if name != "model.weights")


def superseded(cells: pd.DataFrame, ids: Mapping[Any, Sequence[str]]) -> dict[Any, Any]:
    """The numbers of cells to leave out, each with the number of the larger cell that holds its examples and more.

    `ids` are the example ids of each cell. Raises UserError when cells share all labels and differ in more than the
    number of examples, with the fields in which they differ.
    """
    found: dict[Any, Any] = {}
    for _, group in cells.groupby([*LABELS, "budget_label"], dropna=False):
        sizes = {number: len(ids.get(number, ())) or _asked(cells.record[number]) for number in group.index}
        *smaller, largest = sorted(sizes, key=lambda number: sizes[number])
        for number in smaller:
            _check_part(cells, ids, number, largest)
            found[number] = largest
    return found


def _asked(record: CellRecord) -> float:
    """How many examples a cell without any asked for: all of a fixed set are more than any number."""
    asked = record.config.get("examples")
    return math.inf if asked is None else int(asked)


def _check_part(cells: pd.DataFrame, ids: Mapping[Any, Sequence[str]], small: Any, large: Any) -> None:
    configs = {number: flat(cells.record[number].config) for number in (small, large)}
    unused = ("budget",) if cells.record[small].labels.budget is None else ()
    fields = [field for field in varying(configs) if not _is_below(field, (*IRRELEVANT, *unused))]
    few, many = ids.get(small, ()), ids.get(large, ())
    if fields != ["examples"]:
        named = ", ".join(fields) or "none, so in the weights or in the texts of the task"
        problem = f"differ in these fields: {named}"
    elif few and many and list(many[: len(few)]) != list(few):
        problem = "answered other examples, not the same and more"
    else:
        return
    folders = " and ".join(cells.folder[[small, large]])
    raise UserError(f"{folders} have the same labels and {problem}. Move one of them to another folder")


def _is_below(field: str, names: Sequence[str]) -> bool:
    return any(field == name or field.startswith(f"{name}.") for name in names)


def note(cells: pd.DataFrame, left_out: Mapping[Any, Any]) -> str:
    """One line that says what `superseded` leaves out."""
    small, large = next(iter(left_out.items()))
    records = [cells.record[number] for number in (small, large)]
    first, kept = (f"{record.name} ({record.config.get('examples') or 'all'} examples)" for record in records)
    count = "1 cell" if len(left_out) == 1 else f"{len(left_out)} cells"
    which = "" if len(left_out) == 1 else ", the first"
    return f"{count} left out, computed again with more examples{which}: {first}, in favour of {kept}"
