"""The KV budget: how many prefix entries a method may read per layer and KV head."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mage.errors import UserError


@dataclass(frozen=True)
class Budget:
    """An integer is a number of tokens; a float in (0, 1] is a share of the prefix, resolved for each example.

    The budget counts selected prefix entries. The current block is always attended in full and never counted.
    """

    value: int | float

    def __post_init__(self) -> None:
        value = self.value
        whole = isinstance(value, int) and not isinstance(value, bool)
        share = isinstance(value, float) and 0.0 < value <= 1.0
        if not (share or (whole and value >= 1)):
            raise UserError(
                f"budget={value} is out of range. Allowed: an integer >= 1 (tokens per layer and KV head) "
                "or a float in (0, 1] (a share of the prefix)."
            )

    def resolve(self, prefix_length: int) -> int:
        """Return the number of tokens this budget allows for a prefix of `prefix_length` tokens (at least 1)."""
        if isinstance(self.value, int):
            return self.value
        # Rounded first: 0.07 * 100 is 7.000000000000001 in floating point.
        return max(1, math.ceil(round(self.value * prefix_length, 9)))

    @property
    def label(self) -> str:
        """A short name for tables and file names: `64` or `5%`."""
        return str(self.value) if isinstance(self.value, int) else f"{100 * self.value:g}%"
