"""What a generation leaves behind: forwards, seconds, tokens and density, by block and in sum."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

KINDS = ("exact", "fused", "sparse", "commit")
"""Of forwards. Seconds have `prefill` and `selection` too; tokens `seed`, and not `fused`."""


@dataclass
class BlockTrace:
    """One block of one row.

    `forwards`: by kind: `exact` (every layer read the whole prefix), `fused` (an exact first step that is the commit of
    the block before, too, and counts here, not there), `sparse`, `commit`; no commit where the last exact forward saw
    the final tokens, nor where it waits for the fused step of the next block. `seconds`: by kind, the time of
    `selection` apart from the forward it is part of; a batch's seconds are shared equally by its active rows.
    `tokens_decided`: tokens of the output by the kind of forward that decided them, the last one where one was edited;
    those of a fused step are `exact`; `seed` is the first token of an anchored block, decided by the forward before it.
    `elapsed`: seconds from the opening of the block to the end of its commit, or of its last step where that waits for
    the next block; decoding included, checks of what was chosen left out, for the batch as a whole. `reads`,
    `dense_reads`: prefix entries read, selection and commit included, and what a dense run would have read in as many
    steps. Of a commit these are 0 where commits are to be fused: dense fuses each of them, and its next first step
    stands for both, so that a method that does not fuse reads that much more. `captures`: recordings of work made
    during the block, which is time of its own.
    """

    forwards: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    tokens_decided: Counter[str] = field(default_factory=Counter)
    reads: float = 0.0
    dense_reads: float = 0.0
    elapsed: float = 0.0
    captures: int = 0


@dataclass
class Trace:
    """All blocks of one row."""

    blocks: list[BlockTrace] = field(default_factory=list)
    prefill_seconds: float = 0.0
    budget_tokens: int | None = None

    @property
    def forwards(self) -> dict[str, int]:
        """Forwards by kind."""
        return {kind: sum(block.forwards[kind] for block in self.blocks) for kind in KINDS}

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by kind, prefill included."""
        kinds = (*KINDS, "selection")
        return {"prefill": self.prefill_seconds} | {k: sum(b.seconds[k] for b in self.blocks) for k in kinds}

    @property
    def tokens_decided(self) -> dict[str, int]:
        """Output tokens, the stop token included, by the kind of forward that decided them."""
        return {kind: sum(b.tokens_decided[kind] for b in self.blocks) for kind in ("exact", "sparse", "seed")}

    @property
    def density(self) -> float:
        """Prefix entries read over those of dense forwards; 1 when there was no prefix to read."""
        dense = sum(block.dense_reads for block in self.blocks)
        return sum(block.reads for block in self.blocks) / dense if dense else 1.0

    @property
    def sparse_blocks(self) -> int:
        """Blocks with at least one sparse forward."""
        return sum(block.forwards["sparse"] > 0 for block in self.blocks)
