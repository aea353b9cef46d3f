"""What the cells ran on: their seconds are worth comparing only when all ran on one device with as many threads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from runners.record import Environment


@dataclass(frozen=True)
class Conditions:
    """The devices and thread counts of some cells, each once and sorted."""

    devices: tuple[str, ...]
    threads: tuple[int, ...]

    @classmethod
    def of(cls, environments: Iterable[Environment]) -> Conditions:
        found = list(environments)
        return cls(tuple(sorted({e.device for e in found})), tuple(sorted({e.threads for e in found})))

    @property
    def warning(self) -> str:
        """A sentence where they differ, nothing where they agree."""
        fields = {"devices": self.devices, "threads": self.threads}
        differing = "; ".join(f"{name}: {', '.join(map(str, v))}" for name, v in fields.items() if len(v) > 1)
        return f"Cells ran under different conditions ({differing}): do not compare their seconds." if differing else ""

    @property
    def sentences(self) -> str:
        """What the seconds are, and the warning."""
        count = " or ".join(map(str, self.threads))
        unit = "thread" if self.threads == (1,) else "threads"
        seconds = f"Seconds are of a torch reference on {' or '.join(self.devices)}, {count} {unit}."
        return " ".join(filter(None, [seconds, self.warning]))
