"""The causal forward of a block, against one softmax over the prefix and the block's past."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from baselines.dense import Dense
from baselines.oracle import Oracle
from mage.attention.block import BlockAttention
from mage.method import Method, Selection
from mage.view import KEPT_QUERIES, Forward, Request, View
from tests.mage.prefix_store import RandomPrefix, attend_to

BATCH, HEADS, KV_HEADS, ROWS, HEAD_DIM, PREFIX = 2, 6, 2, 5, 8, 20
GROUP = HEADS // KV_HEADS


@dataclass
class Attended:
    """One commit forward of one layer: its output and what it came from."""

    out: Tensor
    q: Tensor
    k: Tensor
    v: Tensor


def attend(prefix: RandomPrefix, method: Method, budget: int, *, causal: bool) -> Attended:
    torch.manual_seed(4)
    q = torch.randn(BATCH, HEADS, ROWS, HEAD_DIM)
    k, v = torch.randn(2, BATCH, KV_HEADS, ROWS, HEAD_DIM)
    windows = torch.zeros(1, BATCH, HEADS, KEPT_QUERIES, HEAD_DIM)
    request = Request(ROWS, prefix.lengths, prefix.lengths, windows, ["0", "1"], 0)
    attention = BlockAttention(method, prefix, request, shadow=False, observer=None)
    prompt_rows = torch.zeros(BATCH, ROWS, dtype=torch.bool)
    attention.begin(Forward(1, 2, commit=True), [budget] * BATCH, prompt_rows, lambda: 0.0, causal=causal)
    return Attended(attention(0, q, k, v), q, k, v)


def by_the_book(prefix: RandomPrefix, of: Attended, seen: Callable[[int], int]) -> Tensor:
    """One row at a time: row r sees its prefix and the first `seen(r)` positions of the block."""
    out, (keys, values) = torch.zeros_like(of.q), prefix.entries(0)
    for b, length in enumerate(prefix.lengths):
        for h in range(HEADS):
            g = h // GROUP
            for r in range(ROWS):
                visible = [keys[b, g, :length], of.k[b, g, : seen(r)]], [values[b, g, :length], of.v[b, g, : seen(r)]]
                out[b, h, r] = attend_to(of.q[b, h, r], *visible)
    return out


@pytest.mark.parametrize("lengths", [[20, 20], [20, 7], [20, 0]], ids=str)
def test_a_causal_forward_sees_the_blocks_past_alone(lengths: list[int]) -> None:
    prefix = RandomPrefix(lengths, KV_HEADS, HEAD_DIM)
    causal = attend(prefix, Dense(), PREFIX, causal=True)
    torch.testing.assert_close(causal.out, by_the_book(prefix, causal, lambda r: r + 1), atol=1e-5, rtol=1e-5)
    assert torch.equal(prefix.written[0], causal.k)
    whole = attend(prefix, Dense(), PREFIX, causal=False)
    torch.testing.assert_close(whole.out, by_the_book(prefix, whole, lambda r: ROWS), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(causal.out[:, :, -1], whole.out[:, :, -1])
    assert not torch.allclose(causal.out[:, :, 0], whole.out[:, :, 0], atol=1e-2)


def test_a_set_chosen_in_a_causal_forward_goes_by_what_its_rows_see() -> None:
    """The mass of the oracle is normalised over the visible part of the block."""
    prefix = RandomPrefix([PREFIX, PREFIX], KV_HEADS, HEAD_DIM)
    seen: list[Tensor] = []

    class Recorded(Oracle):
        def select(self, view: View) -> Selection:
            seen.append(view.mass())
            return Selection(torch.zeros(BATCH, KV_HEADS, 1, dtype=torch.long))

    of = attend(prefix, Recorded(commit="sparse"), 6, causal=True)
    rows = []
    for h in range(GROUP):  # of the first KV head
        for r in range(ROWS):
            keys = torch.cat((prefix.keys[0, 0, 0], of.k[0, 0, : r + 1]))
            rows.append(torch.softmax(keys @ of.q[0, h, r] * HEAD_DIM**-0.5, 0)[:PREFIX])
    torch.testing.assert_close(seen[0][0, 0], torch.stack(rows).mean(0))
