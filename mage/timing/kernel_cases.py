"""What is timed of each kernel: the work, the bytes and operations that it cannot do without, and how right it is.

Bytes: every operand is read once and every result written once. Operations: two a multiplication, of matrix products
alone. Results are compared as `mage.timing.kernel_reference` says, on the last row of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mage.attention.operations import Lengths, Operations
from mage.attention.reference import group_rows
from mage.selection import top_k
from mage.timing.dense import Attention, implementations
from mage.timing.kernel_reference import REFERENCE, choice_error, relative_error
from mage.timing.kernel_shape import KernelShape, Operands

CHECKED_ROWS = 512  # of a prefill, at its start and at its end
POSITION_MAJOR = ("flash-attn", "FlashInfer")  # these give [batch, rows, heads, d]


@dataclass(frozen=True)
class Case:
    """One implementation of one kernel. `prepare` gives the work, and raises where it cannot serve; `error` gives the
    relative error of what the work returned, None where there is nothing to compare with."""

    kernel: str
    implementation: str
    bytes: float
    flops: float
    prepare: Callable[[], Callable[[], Any]]
    error: Callable[[Any], float] | None = None


def _entry_bytes(operands: Operands) -> int:
    """Bytes of a key, or a value, in every KV head of the batch."""
    return operands.shape.heads * operands.shape.body.head_dim * operands.dtype.itemsize


def _row_bytes(operands: Operands) -> int:
    """Bytes of the block's queries, or of its output."""
    return operands.shape.rows * _entry_bytes(operands)


def _product_flops(shape: KernelShape, entries: float) -> float:
    """Operations of the scores of all block rows with so many entries."""
    return 2.0 * shape.heads * shape.rows * entries * shape.body.head_dim


def _last(operands: Operands) -> tuple[Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor], Lengths]:
    """Queries, prefix, block and lengths of the last row of the batch, in float32."""
    shape = operands.shape
    keys, values = (x[-1:, :, : shape.context].float() for x in operands.cache.entries(0))
    k, v = (x[-1:].float() for x in operands.block)
    return operands.grouped[-1:].float(), (keys, values), (k, v), Lengths.of([shape.context], operands.device)


def _dense(operands: Operands, ours: Operations) -> Iterator[Case]:
    """Attention of one denoising step to prefix and block, by everyone who offers it."""
    shape, kv_heads = operands.shape, operands.shape.body.num_kv_heads
    seen = shape.context + shape.block_size

    def error(name: str, got: Any) -> float:
        out: Tensor = got.out if name == ours.name else got
        if name in POSITION_MAJOR:
            split = out.reshape(shape.batch, shape.block_size, shape.body.num_heads, shape.body.head_dim)
            out = group_rows(split.transpose(1, 2), kv_heads)
        q, prefix, block, lengths = _last(operands)
        return relative_error(out[-1:], REFERENCE.exact(q, *prefix, lengths, *block, operands.scale, False).out)

    ready = implementations(operands.cache, shape.body.num_heads, shape.block_size, [ours])
    for name, prepare in ready.items():
        yield Case(
            "dense",
            name,
            2 * seen * _entry_bytes(operands) + 2 * _row_bytes(operands),
            2 * _product_flops(shape, seen),
            partial(_on, operands.queries, prepare),
            partial(error, name),
        )


def _on(queries: Tensor, prepare: Callable[[], Attention]) -> Callable[[], Any]:
    return partial(prepare(), queries, 0)


def _fused(operands: Operands, ours: Operations) -> Iterator[Case]:
    """Attention of a step that commits the block before: its positions stand ahead and see the prefix alone, of which
    they are the end."""
    shape, block, ahead = operands.shape, operands.block, operands.shape.block_size
    if shape.context < ahead:
        return
    cache, grouped = operands.cache, group_rows(operands.fused_queries, shape.body.num_kv_heads)

    def work() -> Tensor:
        return ours.exact(grouped, *cache.entries(0), cache.valid, *block, operands.scale, False, ahead).out

    def error(got: Tensor) -> float:
        _, prefix, own, lengths = _last(operands)
        wanted = REFERENCE.exact(grouped[-1:].float(), *prefix, lengths, *own, operands.scale, False, ahead)
        return relative_error(got[-1:], wanted.out)

    moved = 2 * (shape.context + ahead) * _entry_bytes(operands) + 2 * 2 * _row_bytes(operands)
    flops = 2 * _product_flops(shape, shape.context + shape.context + ahead)
    yield Case("fused", ours.name, moved, flops, lambda: work, error)


def _mass(operands: Operands, ours: Operations) -> Iterator[Case]:
    shape, keys = operands.shape, operands.cache.entries(0)[0]

    def work() -> Tensor:
        return ours.mass(operands.grouped, keys, operands.cache.valid, operands.lse, operands.scale, "mean")

    def error(got: Tensor) -> float:
        q, (last, _), _, lengths = _last(operands)
        wanted = REFERENCE.mass(q, last, lengths, operands.lse[-1:], operands.scale, "mean")
        return relative_error(got[-1:, :, : shape.context], wanted)

    moved = shape.context * (_entry_bytes(operands) + 4 * shape.heads) + _row_bytes(operands)
    yield Case("mass", ours.name, moved, _product_flops(shape, shape.context), lambda: work, error)


def _top_k(operands: Operands, ours: Operations) -> Iterator[Case]:
    """The choice of entries, which is torch's own whatever computes attention."""
    shape, mass = operands.shape, operands.mass
    budgets, lengths = [shape.entries] * shape.batch, [shape.context] * shape.batch
    moved = shape.heads * (4 * shape.context + 8 * shape.entries)

    def error(got: Tensor) -> float:
        return choice_error(got[-1:], mass[-1:])

    yield Case("top_k", "torch", moved, 0.0, lambda: lambda: top_k(mass, budgets, lengths), error)


def _gather(operands: Operands, ours: Operations) -> Iterator[Case]:
    keys, values = operands.cache.entries(0)
    indices, out = operands.indices, operands.compact

    def error(got: tuple[Tensor, Tensor]) -> float:
        wanted = REFERENCE.gather(keys[-1:], values[-1:], indices[-1:])
        return max(relative_error(x[-1:], y) for x, y in zip(got, wanted))

    moved = operands.shape.entries * (4 * _entry_bytes(operands) + 8 * operands.shape.heads)
    yield Case("gather", ours.name, moved, 0.0, lambda: lambda: ours.gather(keys, values, indices, out), error)


def _sparse(operands: Operands, ours: Operations) -> Iterator[Case]:
    shape, buffers, block = operands.shape, operands.compact, operands.block

    def work() -> Tensor:
        return ours.sparse(operands.grouped, *buffers, None, *block, operands.scale, False)

    def error(got: Tensor) -> float:
        q, _, own, _ = _last(operands)
        keys, values = (x[-1:].float() for x in buffers)
        wanted = REFERENCE.sparse(q, keys, values, None, *own, operands.scale, False)
        return relative_error(got[-1:], wanted)

    seen = shape.entries + shape.block_size
    moved = 2 * seen * _entry_bytes(operands) + 2 * _row_bytes(operands)
    yield Case("sparse", ours.name, moved, 2 * _product_flops(shape, seen), lambda: work, error)


def _page_bounds(operands: Operands, ours: Operations) -> Iterator[Case]:
    shape, keys = operands.shape, operands.cache.entries(0)[0]
    out = (torch.empty_like(operands.bounds[0]), torch.empty_like(operands.bounds[1]))

    def work() -> tuple[Tensor, Tensor]:
        ours.page_bounds(keys, operands.cache.valid, shape.page_size, 0, out)
        return out

    def error(got: tuple[Tensor, Tensor]) -> float:
        _, (last, _), _, lengths = _last(operands)
        wanted = (torch.empty_like(out[0][-1:]), torch.empty_like(out[1][-1:]))
        REFERENCE.page_bounds(last, lengths, shape.page_size, 0, wanted)
        return max(relative_error(x[-1:], y) for x, y in zip(got, wanted))

    moved = (shape.context + 2 * shape.pages) * _entry_bytes(operands)
    yield Case("page_bounds", ours.name, moved, 0.0, lambda: work, error)


def _page_scores(reduction: Literal["sum", "max"], operands: Operands, ours: Operations) -> Iterator[Case]:
    shape, (low, high) = operands.shape, operands.bounds

    def work() -> Tensor:
        return ours.page_scores(operands.grouped, low, high, reduction)

    def error(got: Tensor) -> float:
        q, lowest, highest = (x[-1:].float() for x in (operands.grouped, low, high))
        return relative_error(got[-1:], REFERENCE.page_scores(q, lowest, highest, reduction))

    moved = shape.pages * (2 * _entry_bytes(operands) + 4 * shape.heads) + _row_bytes(operands)
    flops = 2 * _product_flops(shape, shape.pages) if reduction == "max" else 0.0  # a sum is taken before the product
    yield Case(f"page_scores_{reduction}", ours.name, moved, flops, lambda: work, error)


def _prefill(operands: Operands, ours: Operations) -> Iterator[Case]:
    """Block-causal attention of a whole prompt; beside it torch's causal one, which sees half a block less."""
    shape, body = operands.shape, operands.shape.body
    if shape.batch > 1:  # one row fills the device by itself
        return
    tokens = shape.context // shape.block_size * shape.block_size
    k, v = (x[:, :, :tokens] for x in operands.cache.entries(0))
    q = operands.normal(1, body.num_heads, tokens, body.head_dim)
    some = min(tokens, max(1, CHECKED_ROWS // shape.block_size) * shape.block_size)

    def error(got: Tensor) -> float:
        found = []
        for start in (0, tokens - some):
            part = slice(start, start + some)
            keys, values = (x[:, :, : part.stop].float() for x in (k, v))
            wanted = REFERENCE.prefill(q[:, :, part].float(), keys, values, start, shape.block_size)
            found.append(relative_error(got[:, :, part], wanted))
        return max(found)

    moved = 2 * tokens * _entry_bytes(operands) * (1 + body.num_heads // body.num_kv_heads)
    flops = 2.0 * body.num_heads * body.head_dim * tokens * (tokens + shape.block_size)
    yield Case("prefill", ours.name, moved, flops, lambda: lambda: ours.prefill(q, k, v, 0, shape.block_size), error)
    yield Case(
        "prefill",
        "torch SDPA, causal",
        moved,
        flops,
        lambda: lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True),
    )


KERNELS: dict[str, Callable[[Operands, Operations], Iterator[Case]]] = {
    "dense": _dense,
    "fused": _fused,
    "mass": _mass,
    "top_k": _top_k,
    "gather": _gather,
    "sparse": _sparse,
    "page_bounds": _page_bounds,
    "page_scores_sum": partial(_page_scores, "sum"),
    "page_scores_max": partial(_page_scores, "max"),
    "prefill": _prefill,
}
"""The cases of each kernel: those of our operations, and of others beside them."""
