"""Bytes and operations of a forward, part by part.

What must pass: weights and KV entries from memory, two operations a multiplication. Activations are taken to stay on
the chip, and what a selection gathers, sorts or writes is left out: a bound made of these numbers is never above what a
device needs. A batch's block rows read each weight, and each KV entry of their row, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mage.models.config import BodyConfig, Experts
from mage.timing.roofs import Roofs

if TYPE_CHECKING:
    from mage.method import Scorers


@dataclass(frozen=True)
class Part:
    """Work of one kind, of all layers together."""

    name: str
    bytes: float
    flops: float


@dataclass(frozen=True)
class Shape:
    """A body at work: `itemsize` bytes a weight and KV element, `batch` rows with blocks of `rows` positions."""

    body: BodyConfig
    itemsize: int
    batch: int
    rows: int

    @property
    def entry_bytes(self) -> int:
        """Bytes of one prefix entry in one layer: its key and value in every KV head."""
        return 2 * self.body.num_kv_heads * self.body.head_dim * self.itemsize

    @property
    def pair_flops(self) -> int:
        """Operations of a position that attends to an entry in one layer: a score and a weighted sum in every head."""
        return 4 * self.body.num_heads * self.body.head_dim


def forward_parts(shape: Shape, attended: float, read: float | None = None, ahead: int = 0) -> list[Part]:
    """Return the parts of a denoising or commit forward, logits of all block rows included.

    `attended`: prefix entries that each position attends to, summed over layers. `read`: entries that pass from memory,
    of one batch row, summed over layers, where a selection reads more (None: the same). `ahead`: positions that are
    committed in the same forward: they attend to those entries and to nothing else, and have no logits.
    """
    body, tokens = shape.body, shape.batch * (ahead + shape.rows)
    moved = attended if read is None else read
    pairs = tokens * attended + shape.batch * body.num_layers * shape.rows**2
    # The block's own K, V stay on the chip.
    attention = Part("attention", shape.batch * moved * shape.entry_bytes, pairs * shape.pair_flops)
    return [*_layers(shape, tokens, passes=1), attention, _head(shape, shape.batch * shape.rows)]


def selection_part(shape: Shape, metadata: float, scorers: Scorers) -> Part:
    """Return what choosing costs. `metadata`: token equivalents that it reads, of one batch row, summed over layers
    (see `Selection.metadata_tokens`), each two vectors in every KV head: two keys, or both bounds of a page.
    `scorers`: what is multiplied with each of them."""
    group = shape.body.num_heads / shape.body.num_kv_heads
    per_head = {"nothing": 0, "positions": shape.rows, "query_heads": 1, "kv_heads": 1 / group}[scorers]
    flops = shape.batch * per_head * metadata * shape.pair_flops
    return Part("selection", shape.batch * metadata * shape.entry_bytes, flops)


def prefill_parts(shape: Shape, tokens: int, *, unit: int, chunk: int | None) -> list[Part]:
    """Return the parts of a block-causal prefill of `tokens` tokens a row in blocks of `unit`, `chunk` a pass (None:
    all at once); of logits the last position's."""
    body, size = shape.body, chunk or max(tokens, 1)
    ends = [min(start + size, tokens) for start in range(0, tokens, size)]
    blocks, tail = divmod(tokens, unit)
    pairs = unit * unit * blocks * (blocks + 1) // 2 + tail * tokens
    entries = tokens + sum(ends[:-1])  # written once; a pass reads those of the passes before it
    scale = shape.batch * body.num_layers
    attention = Part("attention", scale * entries * shape.entry_bytes, scale * pairs * shape.pair_flops)
    return [*_layers(shape, shape.batch * tokens, passes=len(ends)), attention, _head(shape, shape.batch)]


def least_seconds(parts: Sequence[Part], roofs: Roofs) -> float:
    """Return the least time of parts that follow each other, each at the nearer of its roofs."""
    return sum(roofs.seconds(part.bytes, part.flops) for part in parts)


def touched_experts(experts: Experts, tokens: int) -> float:
    """Return how many experts of a layer `tokens` tokens are expected to take when each takes its own at random."""
    expected = experts.count * (1 - (1 - experts.per_token / experts.count) ** tokens)
    if experts.capacity is None or experts.block_size is None:
        return expected
    return min(expected, -(-tokens // experts.block_size) * experts.capacity)


def _layers(shape: Shape, tokens: int, passes: int) -> list[Part]:
    """The products of all layers on `tokens` tokens, in so many passes over the weights."""
    body = shape.body
    heads = 2 * (body.num_heads + body.num_kv_heads) * body.head_dim * body.hidden_size  # q and o, k and v
    projections = _product("projections", shape, body.num_layers * heads, tokens, passes)
    experts = body.experts
    routed = 0 if experts is None else body.num_layers - len(experts.dense_layers)
    plain = 3 * body.hidden_size * body.intermediate_size * (body.num_layers - routed)
    parts = [projections]
    if plain:
        parts.append(_product("feed-forward", shape, plain, tokens, passes))
    if experts is not None and routed:
        one = 3 * body.hidden_size * experts.intermediate_size
        every = body.hidden_size * (experts.count + 3 * experts.shared_size)  # router and shared expert
        held = touched_experts(experts, -(-tokens // passes)) * one + every
        used = experts.per_token * one + every
        parts.append(Part("experts", passes * routed * held * shape.itemsize, 2 * tokens * routed * used))
    return parts


def _head(shape: Shape, tokens: int) -> Part:
    return _product("logits", shape, shape.body.hidden_size * shape.body.vocab_size, tokens, 1)


def _product(name: str, shape: Shape, weights: int, tokens: int, passes: int) -> Part:
    return Part(name, passes * weights * shape.itemsize, 2.0 * tokens * weights)
