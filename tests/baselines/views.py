"""Random views of a layer, and the naive attention that definitions are checked with."""

from __future__ import annotations

import torch
from torch import Tensor

from mage.view import KEPT_QUERIES, Forward, Request, View

HEAD_DIM = 8
# batch, KV heads, query group, rows: the paper's own setting (one query, one head), and a block that shares one set
SHAPES = [(1, 1, 1, 1), (2, 2, 3, 4)]


def make_view(
    shape: tuple[int, int, int, int],
    prefix: int = 40,
    budget: int = 12,
    forward: Forward = Forward(1, 1),  # noqa: B008 - frozen
    layer: int = 0,
    draw: int = 1,
    **request: object,
) -> View:
    """Random tensors of one layer, others for each `draw`; `request` replaces fields of the request."""
    batch, kv_heads, group, rows = shape
    torch.manual_seed(draw)
    queries = torch.randn(batch, kv_heads * group, rows, HEAD_DIM)
    keys = torch.randn(batch, kv_heads, prefix, HEAD_DIM) * 2
    block_keys = torch.randn(batch, kv_heads, rows, HEAD_DIM)
    fields: dict[str, object] = {
        "block_size": 4,
        "prefilled": [prefix] * batch,
        "question_starts": [prefix] * batch,
        "windows": torch.randn(2, batch, kv_heads * group, KEPT_QUERIES, HEAD_DIM),
        "example_ids": [str(row) for row in range(batch)],
        "seed": 0,
    }
    return View(
        request=Request(**(fields | request)),  # type: ignore[arg-type]
        forward=forward,
        layer=layer,
        scale=HEAD_DIM**-0.5,
        queries=queries,
        keys=keys,
        block_keys=block_keys,
        mask=None,
        prompt_rows=torch.zeros(batch, rows, dtype=torch.bool),
        budgets=[budget] * batch,
        lengths=[prefix] * batch,
    )


def naive_rows(view: View, batch: int, head: int, denominator: str = "prefix+block") -> Tensor:
    """softmax(q . keys) on the prefix for each row that shares one KV head, one row at a time: `[rows, prefix]`."""
    group = view.queries.shape[1] // view.num_kv_heads
    keys = view.keys[batch, head]
    if denominator == "prefix+block":
        keys = torch.cat((keys, view.block_keys[batch, head]))
    return torch.stack(
        [
            torch.softmax(keys @ view.queries[batch, head * group + g, r] * view.scale, 0)[: view.keys.shape[2]]
            for g in range(group)
            for r in range(view.queries.shape[2])
        ]
    )


def best(scores: Tensor, count: int) -> set[int]:
    return set(scores.sort(descending=True).indices[:count].tolist())
