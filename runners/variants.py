"""What tells the cells of a sweep apart beyond method, budget and task: the options that a person varied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runners.cell import Cell
from runners.identity import IGNORED

# Options that change no result but may be all that differs between two rows.
NAMED = ("name", "model.weights", "model.revision", "model.tokenizer", "model.adapter", "model.body")
NEVER_SHOWN = frozenset(IGNORED) - frozenset(NAMED) | {"budget"}


class Variants:
    """`columns`: for each option needed to tell the cells apart, its dotted name and a short head."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._options = {cell.folder: dict(_flat(cell.config)) for cell in cells}
        groups: dict[tuple[str, ...], list[Path]] = {}
        for cell in cells:
            groups.setdefault(cell.shown, []).append(cell.folder)
        chosen = self._tell_apart(list(groups.values()))
        short = [_short(option) for option in chosen]
        self.columns = {
            option: head if short.count(head) == 1 else option for option, head in zip(chosen, short, strict=True)
        }

    def values(self, cell: Cell) -> list[str]:
        """Return the cell's value for each column; empty where it has no such option."""
        options = self._options[cell.folder]
        return [options.get(option, "") for option in self.columns]

    def title(self, cell: Cell) -> str:
        """Return the cell's short name and what tells it apart, such as `mage 64 niah seed=1`."""
        pairs = zip(self.columns.values(), self.values(cell), strict=True)
        return " ".join([cell.title, *(f"{head}={value}" for head, value in pairs if value)])

    def _tell_apart(self, groups: list[list[Path]]) -> list[str]:
        """Return the options that split groups of equally shown cells. Names of choices come before their fields."""
        options = list(dict.fromkeys(option for found in self._options.values() for option in found))
        chosen = []
        for option in sorted(options, key=lambda option: not option.endswith(".name")):
            split: list[list[Path]] = []
            for group in groups:
                parts: dict[str, list[Path]] = {}
                for folder in group:
                    parts.setdefault(self._options[folder].get(option, ""), []).append(folder)
                split += parts.values()
            if len(split) > len(groups):
                chosen.append(option)
                groups = split
        return chosen


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in section.items():
        name = f"{prefix}{key}"
        if name in NEVER_SHOWN:
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        else:
            yield name, str(value).replace(", ", ",")


def _short(option: str) -> str:
    """`decoding.name` is `decoding`, `method.page_size` is `page_size`."""
    parts = option.removesuffix("._target_").split(".")
    return parts[0] if parts[-1] == "name" else parts[-1]
