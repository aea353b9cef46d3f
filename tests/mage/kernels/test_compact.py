"""Attention to a compact buffer and the block, against the torch reference."""

from __future__ import annotations

import pytest
import torch

from mage.attention.kernels.compact import compact_kernel, sparse_attention, splits_worth_a_merge
from mage.attention.kernels.tiles import Tile, compact_tile
from tests.mage.kernels.attention_compiling import H200, check_compiles, gpu
from tests.mage.kernels.block_problem import BlockProblem, poisoned_memory
from tests.mage.kernels.compiling import CAPABILITIES
from tests.mage.kernels.error import TOLERANCE, relative_error

SMALL = Tile(rows=16, keys=16, warps=4, stages=2)


@pytest.mark.parametrize(
    ("kv_heads", "group", "block", "dim", "counts", "capacity", "causal", "splits", "tile"),
    [
        pytest.param(2, 1, 4, 16, [[9, 0], [40, 37]], 40, False, 1, SMALL, id="counts-differ-by-head"),
        pytest.param(2, 1, 4, 16, [[9, 0], [40, 37]], 40, False, 3, SMALL, id="counts-differ-in-parts"),
        pytest.param(2, 1, 4, 16, [[9, 0], [40, 37]], 200, False, 1, SMALL, id="room-for-more"),
        pytest.param(2, 1, 4, 16, [[9, 0], [40, 37]], 200, True, 5, SMALL, id="room-for-more-in-parts"),
        pytest.param(1, 3, 7, 64, [[48], [48]], 48, True, 1, SMALL, id="all-valid"),
        pytest.param(1, 7, 32, 128, [[70]], 70, False, 1, Tile(64, 32, 4, 2), id="group-7-block-32"),
        pytest.param(1, 2, 5, 80, [[33]], 64, True, 1, SMALL, id="padded-dim"),
        pytest.param(1, 5, 4, 32, [[70]], 70, True, 2, Tile(32, 16, 4, 2), id="all-valid-in-parts"),
        pytest.param(2, 2, 5, 32, [[50, 0, 31, 16]], 50, False, 1, SMALL, id="a-buffer-for-each-query-head"),
        pytest.param(1, 4, 6, 16, [[20, 21, 40, 23], [0, 1, 2, 3]], 42, True, 2, SMALL, id="query-heads-in-parts"),
        pytest.param(1, 1, 64, 32, [[0]], 0, True, 1, SMALL, id="no-buffer-block-64"),
        pytest.param(1, 1, 16, 32, [[0]], 0, True, None, None, id="no-buffer-chosen-tile"),
        pytest.param(1, 8, 8, 64, [[100]], 128, False, None, None, id="group-8-chosen-tile"),
    ],
)
def test_is_the_attention_of_the_reference(
    kv_heads: int,
    group: int,
    block: int,
    dim: int,
    counts: list[list[int]],
    capacity: int,
    causal: bool,
    splits: int | None,
    tile: Tile | None,
    dtype: torch.dtype,
    device: str,
) -> None:
    problem = BlockProblem.random(
        dtype, device, kv_heads=kv_heads, group=group, block=block, dim=dim, lengths=counts, capacity=capacity
    )
    p, given = problem, None if min(map(min, counts)) == capacity else problem.lengths
    with poisoned_memory():
        got = sparse_attention(p.q, p.keys, p.values, given, p.k, p.v, p.scale, causal, splits=splits, tile=tile)
    assert got.dtype == dtype
    assert relative_error(got, problem.expected(causal)[0]) <= TOLERANCE[dtype]


@pytest.mark.parametrize(
    ("batch", "entries", "splits"),
    [
        pytest.param(1, 256, 1, id="short"),
        pytest.param(1, 512, 4, id="idle-processors"),
        pytest.param(1, 2048, 16, id="long"),
        pytest.param(8, 512, 1, id="batch-8"),
        pytest.param(32, 2048, 1, id="full"),
    ],
)
def test_splits_only_where_that_pays(batch: int, entries: int, splits: int) -> None:
    tile = compact_tile(224, 128, 2, H200)
    assert tile == Tile(64, 64, 4, 3)
    assert splits_worth_a_merge(4 * 4 * batch, entries // 64, 132 * tile.resident(128, 2, H200)) == splits


@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_compiles(capability: int, dim: int) -> None:
    tile = compact_tile(224, dim, 2, gpu(capability))
    check_compiles(compact_kernel, capability, tile, CAUSAL=dim == 64, M=tile.rows, N=tile.keys, DIM=dim, WIDTH=dim)


def test_compiles_without_counts() -> None:
    none = {"counts": None, "stride_cb": 0, "stride_ch": 1}  # compiled into the kernel
    check_compiles(compact_kernel, 90, SMALL, **none, CAUSAL=True, M=16, N=16, DIM=64, WIDTH=64)
