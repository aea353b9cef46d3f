"""What the forwards of a block took, written down as they run and told when the block is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mage.attention.block import BlockAttention
from mage.generation.clock import Clock
from mage.generation.trace import BlockTrace

Span = tuple[Any, Any]  # two marks of a clock


@dataclass(frozen=True)
class Entry:
    """One forward, of a kind for each row, and the rows that needed it."""

    whole: Span
    selection: list[Span]
    checks: list[Span]
    active: list[bool]
    kinds: list[str]
    reads: list[float]
    dense_reads: list[float]


class Ledger:
    """The forwards of one block of a batch. Reading a clock may wait for the device, so that it is read at the end."""

    def __init__(self, clock: Clock, *, fuse_commit: bool = False) -> None:
        """Opens the block now. `fuse_commit`: whether a dense run would have no commits of their own."""
        self._clock, self._entries, self._fuse_commit = clock, list[Entry](), fuse_commit
        self._opened = clock.mark()

    def book(self, began: Any, attention: BlockAttention, active: Sequence[bool], kinds: Sequence[str]) -> None:
        """Write down the forward that `attention` saw end, begun at the mark `began`. `kinds`: what it was for each
        row; one that commits the block before, too, is `fused` for all."""
        whole = (began, self._clock.mark())
        spans = attention.selection_spans, attention.check_spans
        reads = attention.reads, attention.dense_reads
        kinds = ["fused"] * len(kinds) if attention.now.ahead else list(kinds)
        self._entries.append(Entry(whole, *spans, list(active), kinds, *reads))

    def settle(self, traces: Sequence[BlockTrace | None], captures: int) -> None:
        """Close the block, in which `captures` recordings were made: bring what was written down to the traces of its
        rows (None: a row that was done before)."""
        closed = self._clock.mark()
        seconds = self._clock.seconds
        for entry in self._entries:
            selection = sum(seconds(*span) for span in entry.selection)
            rest = seconds(*entry.whole) - selection - sum(seconds(*span) for span in entry.checks)
            rows = sum(entry.active)
            for row, trace in enumerate(traces):
                if trace is not None and entry.active[row]:
                    kind = entry.kinds[row]
                    trace.forwards[kind] += 1
                    trace.seconds[kind] += rest / rows
                    trace.seconds["selection"] += selection / rows
                    trace.reads += entry.reads[row]
                    if kind != "commit" or not self._fuse_commit:
                        trace.dense_reads += entry.dense_reads[row]
        checked = sum(seconds(*span) for entry in self._entries for span in entry.checks)
        for trace in traces:
            if trace is not None:
                trace.elapsed, trace.captures = seconds(self._opened, closed) - checked, captures
