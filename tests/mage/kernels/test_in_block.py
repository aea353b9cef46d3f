"""Attention to a prefix alone, and of a block to itself on top of it, against the torch reference."""

from __future__ import annotations

import pytest
import torch

from mage.attention.kernels.in_block import in_block_attention, in_block_kernel, in_block_tile
from mage.attention.kernels.split import part_kernel, prefix_attention
from mage.attention.kernels.tiles import Tile, streaming_tile
from mage.attention.reference import partial_attention
from tests.mage.kernels.ahead_cases import AHEAD_CASES, SMALL, AheadCase
from tests.mage.kernels.attention_compiling import H200, check_compiles, gpu
from tests.mage.kernels.block_problem import BlockProblem, poisoned_memory
from tests.mage.kernels.compiling import CAPABILITIES
from tests.mage.kernels.error import TOLERANCE, relative_error


@pytest.mark.parametrize(
    ("kv_heads", "group", "block", "dim", "lengths", "splits", "tile", "causal"),
    [
        pytest.param(2, 1, 4, 16, [70, 0], 3, SMALL, False, id="uneven-and-empty"),
        pytest.param(1, 2, 5, 32, [33, 64], 1, SMALL, True, id="one-split-odd-block"),
        pytest.param(1, 3, 7, 80, [50], 2, SMALL, True, id="padded-dim"),
        pytest.param(1, 7, 32, 128, [70], 2, Tile(128, 32, 8, 2), False, id="group-7-block-32"),
        pytest.param(1, 8, 4, 16, [40], 9, SMALL, False, id="more-splits-than-keys"),
        pytest.param(1, 1, 64, 32, [40], None, None, True, id="block-64-chosen-tile"),
        pytest.param(1, 2, 6, 16, [0, 0], None, None, False, id="all-empty"),
    ],
)
def test_is_the_attention_of_the_reference(
    kv_heads: int,
    group: int,
    block: int,
    dim: int,
    lengths: list[int],
    splits: int | None,
    tile: Tile | None,
    causal: bool,
    dtype: torch.dtype,
    device: str,
) -> None:
    problem = BlockProblem.random(
        dtype,
        device,
        kv_heads=kv_heads,
        group=group,
        block=block,
        dim=dim,
        lengths=[[length] * kv_heads for length in lengths],
        capacity=max(lengths) + 9,
    )
    p, held = problem, problem.lengths[:, 0]
    with poisoned_memory():
        kept = prefix_attention(p.q, p.keys, p.values, held, p.scale, splits=splits, tile=tile)
        out = in_block_attention(p.q, p.k, p.v, kept, p.scale, causal, tile=None if tile is None else SMALL)
    keys, values = p.keys.float().nan_to_num(), p.values.float().nan_to_num()
    mask = torch.arange(keys.shape[2], device=device) < p.lengths[..., None, None]
    for part, wanted in zip(kept, partial_attention(p.q.float(), keys, values, p.scale, mask)):
        assert part.dtype == torch.float32
        assert relative_error(part, wanted) <= TOLERANCE[dtype]
    assert out.dtype == dtype
    assert relative_error(out, problem.expected(causal)[0]) <= TOLERANCE[dtype]


@pytest.mark.parametrize("causal", [False, True], ids=["whole", "causal"])
@pytest.mark.parametrize("case", AHEAD_CASES)
def test_positions_ahead_of_the_block_see_the_prefix_alone(
    case: AheadCase, causal: bool, dtype: torch.dtype, device: str
) -> None:
    p, splits, tile = case.problem(dtype, device), case.splits, case.tile
    held, small = p.lengths[:, 0], None if tile is None else SMALL
    with poisoned_memory():
        kept = prefix_attention(p.q, p.keys, p.values, held, p.scale, splits=splits, tile=tile)
        out = in_block_attention(p.q, p.k, p.v, kept, p.scale, causal, case.ahead, tile=small)
    assert relative_error(out, p.expected(causal)[0]) <= TOLERANCE[dtype]


def test_what_is_kept_goes_where_it_shall(device: str) -> None:
    p = BlockProblem.random(
        torch.float32, device, kv_heads=2, group=1, block=4, dim=16, lengths=[[40, 40]], capacity=40
    )
    place = torch.empty(p.q.shape, device=device), torch.empty(p.q.shape[:3], device=device)
    given = prefix_attention(p.q, p.keys, p.values, p.lengths[:, 0], p.scale, place)
    fresh = prefix_attention(p.q, p.keys, p.values, p.lengths[:, 0], p.scale)
    for kept, expected, mine in zip(place, fresh, given):
        assert mine is kept and torch.equal(kept, expected)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_prefix_far_below_or_above_the_block(sign: int, device: str) -> None:
    p = BlockProblem.random(torch.float32, device, kv_heads=1, group=1, block=4, dim=16, lengths=[[40]], capacity=40)
    p.keys.copy_(sign * 10 * p.q[0, 0, 0])
    p.k.copy_(-sign * 10 * p.q[0, 0, 0])
    wanted = p.expected(False)
    assert sign * float(wanted[1][0, 0, 0] - wanted[2][0, 0, 0]) > 150  # beyond what float32 can weigh
    kept = prefix_attention(p.q, p.keys, p.values, p.lengths[:, 0], p.scale, splits=2, tile=SMALL)
    assert relative_error(in_block_attention(p.q, p.k, p.v, kept, p.scale, False), wanted[0]) <= 1e-5


def test_tiles_of_an_h200() -> None:
    assert in_block_tile(224, 32, 128, 2, H200) == Tile(32, 32, 4, 3)
    assert in_block_tile(4, 4, 64, 2, H200) == Tile(16, 16, 4, 3)
    assert in_block_tile(64, 64, 64, 2, H200) == Tile(32, 64, 4, 3)


@pytest.mark.parametrize(("rows", "block", "dim"), [(224, 32, 128), (128, 64, 64), (4, 4, 128)])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_compiles(capability: int, rows: int, block: int, dim: int) -> None:
    tile = in_block_tile(rows, block, dim, 2, gpu(capability))
    check_compiles(in_block_kernel, capability, tile, CAUSAL=block == 64, M=tile.rows, N=tile.keys, DIM=dim, WIDTH=dim)


@pytest.mark.parametrize(("rows", "dim"), [(224, 128), (64, 128), (224, 64)])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_parts_of_a_prefix_alone_compile(capability: int, rows: int, dim: int) -> None:
    tile = streaming_tile(rows, dim, 2, gpu(capability))
    none = {"k": None, "v": None}
    check_compiles(part_kernel, capability, tile, **none, CAUSAL=False, M=tile.rows, N=tile.keys, DIM=dim, WIDTH=dim)
