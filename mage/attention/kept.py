"""What attention to the prefix gave, kept from one step of a block to the next."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from mage.attention.operations import Lengths, Operations
from mage.attention.reference import last_rows
from mage.method import EXACT, Plan
from mage.view import Forward


@dataclass(frozen=True)
class KeptPart:
    """The prefix's part of the attention of one layer (see `Operations.prefix`), over entries of `itemsize` bytes a
    number."""

    part: tuple[Tensor, Tensor]
    itemsize: int

    @cached_property
    def reads(self) -> list[float]:
        """What it costs to read, by batch row, in tokens of one KV head: the output and the log-sum-exp of every row,
        over a key and a value."""
        batch, _, rows, dim = self.part[0].shape
        return [rows * (dim + 1) * self.part[0].itemsize / (2 * dim * self.itemsize)] * batch

    @property
    def fewest(self) -> list[int]:
        """Entries of the prefix that are read, by batch row: none."""
        return [0] * self.part[0].shape[0]


class KeptParts:
    """The kept parts of one generation, by layer: buffers that are written over where they are, so that a captured
    forward finds them."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._parts: dict[int, KeptPart] = {}
        self._holds = False  # what was kept in this block

    def planned(self, forward: Forward, plan: Plan) -> Plan:
        """Return what the sparse layers do in `forward`: exact attention where the plan is to reuse what no step of
        this block has kept, as in the commit of a block without steps."""
        self._holds &= forward.step > 1
        self._holds |= plan.prefix == "keep"
        return EXACT if plan.prefix == "reuse" and not self._holds else plan

    def of(self, layer: int) -> KeptPart | None:
        """Return what is kept of `layer`, as it is."""
        return self._parts.get(layer)

    def attend(
        self,
        layer: int,
        plan: Plan,
        q: Tensor,
        prefix: tuple[Tensor, Tensor, Lengths],
        block: tuple[Tensor, Tensor],
        scale: float,
        causal: bool,
        ahead: int = 0,
    ) -> Tensor:
        """Attend to the block, given by its keys and values, and to the prefix or to what is kept of it. Of positions
        ahead of the block nothing is kept. For the rest see `Operations`."""
        if plan.prefix == "keep":
            part = self._keep(layer, q, prefix, scale, q.shape[2] // (ahead + block[0].shape[2]), ahead)
        else:
            part = self._parts[layer].part
        return self._operations.in_block(q, *block, part, scale, causal, ahead)

    def _keep(
        self, layer: int, q: Tensor, prefix: tuple[Tensor, Tensor, Lengths], scale: float, group: int, ahead: int
    ) -> tuple[Tensor, Tensor]:
        """Attend to the prefix, and return what that gives all rows."""
        earlier = self._parts.get(layer)
        into = None if earlier is None or ahead else earlier.part
        whole = self._operations.prefix(q, *prefix, scale, into)
        if earlier is None:
            out, lse = (last_rows(rows, group, ahead).contiguous() for rows in whole)
            self._parts[layer] = KeptPart((out, lse), prefix[0].itemsize)
        elif ahead:
            for kept_rows, rows in zip(earlier.part, whole):
                kept_rows.copy_(last_rows(rows, group, ahead))
        return whole
