"""How a cell differs from the others of its experiment: field by field, the nearest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runners.identity import IGNORED, NEUTRAL
from runners.record import CellRecord
from runners.store.place import Place

ABSENT = "-"


@dataclass(frozen=True)
class Difference:
    """A config field of two cells. `counts`: whether it is a part of the identity."""

    field: str
    mine: str
    theirs: str
    counts: bool


@dataclass(frozen=True)
class Neighbour:
    """Another cell and what differs; `hidden`: the configs agree in all that counts, and yet it is another cell."""

    name: str
    differences: list[Difference]
    hidden: bool

    @property
    def distance(self) -> tuple[int, int]:
        """Fields that differ and count, then all that differ."""
        return sum(found.counts for found in self.differences), len(self.differences)


def neighbours(record: CellRecord, others: Sequence[Place]) -> list[Neighbour]:
    """Return the other cells that have a record, the nearest first."""
    found = []
    for place in others:
        other = place.record
        if other is None or other.identity == record.identity:
            continue
        differences = list(_differences(record, other))
        hidden = not any(difference.counts for difference in differences)
        found.append(Neighbour(place.folder.name, differences, hidden))
    return sorted(found, key=lambda neighbour: neighbour.distance)


def _differences(record: CellRecord, other: CellRecord) -> Iterator[Difference]:
    mine, theirs = _fields(record), _fields(other)
    unused = ("budget",) if record.labels.budget is None and other.labels.budget is None else ()
    for field in dict.fromkeys([*mine, *theirs]):
        pair = mine.get(field, ABSENT), theirs.get(field, ABSENT)
        if pair[0] != pair[1]:
            yield Difference(field, *pair, counts=not _ignored(field, (*IGNORED, *unused)))


def _fields(record: CellRecord) -> dict[str, str]:
    """Return the fields by their dotted names, as the identity sees them: options that came later at the value that
    changes nothing are left out, `attention` is what ran, a device is its kind."""
    fields = dict(_flat(record.config))
    fields["attention"] = record.environment.attention
    if "model.device" in fields:
        fields["model.device"] = fields["model.device"].split(":")[0]
    return {field: value for field, value in fields.items() if field not in NEUTRAL or value != _shown(NEUTRAL[field])}


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in section.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _shown(value)


def _shown(value: object) -> str:
    """Return a value as a person writes it into a config: null is one, and no absence."""
    return "null" if value is None else str(value)


def _ignored(field: str, ignored: Sequence[str]) -> bool:
    return any(field == name or field.startswith(f"{name}.") for name in ignored)
