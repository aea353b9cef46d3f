"""What a generation leaves behind: forwards, seconds, tokens and density, by block and in sum."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

KINDS = ("exact", "sparse", "commit")  # of forwards; seconds have `prefill` and `selection` too, tokens have `seed`


@dataclass
class BlockTrace:
    """One block of one row.

    `forwards`: by kind: `exact` (every layer read the whole prefix), `sparse`, `commit`; no commit where the last exact
    forward saw the final tokens, nor where the commit is one forward with the first step of the next block: that is an
    `exact` one of the next block, which counts it as `fused`, too, and has its seconds. `seconds`: by kind, the time of
    `selection` apart from the forward it is part of; a batch's seconds are shared equally by its active rows.
    `tokens_decided`: tokens of the output by the kind of forward that decided them, the last one where one was edited;
    `seed` is the first token of an anchored block, decided by the forward before it. `elapsed`: seconds from the
    opening of the block to the end of its commit, decoding included, checks of what was chosen left out, for the batch
    as a whole. `reads`, `dense_reads`: prefix entries read, selection and commit included, and what dense forwards
    would have read, as many as there were: a fused one reads the prefix, with the block before in it, once on both
    sides. `captures`: recordings of work made during the block, which is time of its own.
    """

    forwards: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    tokens_decided: Counter[str] = field(default_factory=Counter)
    reads: float = 0.0
    dense_reads: float = 0.0
    elapsed: float = 0.0
    captures: int = 0
    fused: int = 0


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
