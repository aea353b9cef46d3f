"""Attention to a long prefix in splits, against the torch reference."""

from __future__ import annotations

import pytest
import torch

from mage.attention.kernels.merge import merge_kernel
from mage.attention.kernels.split import exact_attention, part_kernel
from mage.attention.kernels.tiles import Device, Tile, splits_of, streaming_tile
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
        pytest.param(1, 3, 8, 64, [95], 2, SMALL, True, id="group-3"),
        pytest.param(1, 4, 7, 80, [50], 2, SMALL, False, id="padded-dim"),
        pytest.param(1, 5, 16, 128, [129], 4, Tile(32, 32, 4, 2), False, id="group-5"),
        pytest.param(1, 6, 8, 64, [90, 40], 5, Tile(64, 16, 4, 2), True, id="group-6"),
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
        got = exact_attention(p.q, p.keys, p.values, held, p.k, p.v, p.scale, causal, splits=splits, tile=tile)
    assert got[0].dtype == dtype
    for part, wanted in zip(got, problem.expected(causal)):
        assert relative_error(part, wanted) <= TOLERANCE[dtype]


@pytest.mark.parametrize("causal", [False, True], ids=["whole", "causal"])
@pytest.mark.parametrize("case", AHEAD_CASES)
def test_positions_ahead_of_the_block_see_the_prefix_alone(
    case: AheadCase, causal: bool, dtype: torch.dtype, device: str
) -> None:
    p = case.problem(dtype, device)
    held, block = p.lengths[:, 0], (p.k, p.v, p.scale, causal, case.ahead)
    with poisoned_memory():
        got = exact_attention(p.q, p.keys, p.values, held, *block, splits=case.splits, tile=case.tile)
    for part, wanted in zip(got, p.expected(causal)):
        assert relative_error(part, wanted) <= TOLERANCE[dtype]


def test_log_sum_exp_of_a_prefix_far_below_the_block(device: str) -> None:
    problem = BlockProblem.random(
        torch.float32, device, kv_heads=1, group=1, block=4, dim=16, lengths=[[40]], capacity=40
    )
    p = problem
    p.keys.copy_(-10 * p.q[0, 0, 0])
    p.k.copy_(10 * p.q[0, 0, 0])
    got = exact_attention(p.q, p.keys, p.values, p.lengths[:, 0], p.k, p.v, p.scale, False, splits=2, tile=SMALL)
    wanted = problem.expected(False)
    assert wanted[1][0, 0, 0] < wanted[2][0, 0, 0] - 150  # beyond what float32 can weigh
    for part, reference in zip(got, wanted):
        assert relative_error(part, reference) <= TOLERANCE[torch.float32]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_captured_once_it_follows_the_lengths() -> None:
    problem = BlockProblem.random(
        torch.bfloat16, "cuda", kv_heads=2, group=7, block=32, dim=128, lengths=[[4000] * 2] * 2, capacity=4000
    )
    p, lengths = problem, torch.tensor([4000, 1], dtype=torch.int32, device="cuda")

    def attend() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return exact_attention(p.q, p.keys, p.values, lengths, p.k, p.v, p.scale, False)

    attend()  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = attend()
    for given in ([4000, 1], [0, 300], [129, 2048]):
        lengths.copy_(torch.tensor(given))
        p.lengths.copy_(lengths[:, None].expand(-1, 2))
        graph.replay()
        for part, wanted in zip(captured, problem.expected(False)):
            assert relative_error(part, wanted) <= TOLERANCE[torch.bfloat16]


def test_refuses_a_transposed_operand(device: str) -> None:
    problem = BlockProblem.random(
        torch.float32, device, kv_heads=1, group=1, block=16, dim=16, lengths=[[16]], capacity=16
    )
    p = problem
    with pytest.raises(ValueError, match="keys has stride"):
        exact_attention(p.q, p.keys.mT, p.values, p.lengths[:, 0], p.k, p.v, p.scale, False)


def test_tiles_of_an_h200() -> None:
    assert streaming_tile(224, 128, 2, H200) == Tile(128, 128, 8, 3)
    assert streaming_tile(128, 64, 2, H200) == Tile(128, 128, 8, 3)
    assert streaming_tile(64, 128, 2, H200) == Tile(64, 64, 4, 3)
    assert streaming_tile(5, 128, 2, H200) == Tile(16, 64, 4, 3)
    assert streaming_tile(64, 128, 2, H200).resident(128, 2, H200) == 2
    assert streaming_tile(224, 128, 2, H200).resident(128, 2, H200) == 1


@pytest.mark.parametrize("shared", [99 * 1024, 163 * 1024, 227 * 1024])
@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("dim", [16, 64, 80, 128, 256])
def test_tiles_fit_the_device(shared: int, itemsize: int, dim: int) -> None:
    device = Device(processors=100, shared=shared)
    for rows in (1, 32, 33, 64, 65, 448):
        tile = streaming_tile(rows, dim, itemsize, device)
        assert tile.shared(dim, itemsize) <= shared
        assert tile.keys >= 16 and tile.stages >= 2


@pytest.mark.parametrize(
    ("programs", "tiles", "slots", "splits"),
    [
        pytest.param(8, 1024, 132, 16, id="one-wave"),
        pytest.param(64, 1024, 132, 2, id="batch-8"),
        pytest.param(2, 1024, 132, 64, id="no-more-than-a-merge-takes"),
        pytest.param(8, 4, 132, 2, id="short"),
        pytest.param(8, 1, 132, 1, id="one-tile"),
        pytest.param(1000, 1024, 132, 5, id="even-waves"),
    ],
)
def test_splits(programs: int, tiles: int, slots: int, splits: int) -> None:
    assert splits_of(programs, tiles, slots) == splits


@pytest.mark.parametrize(("rows", "dim"), [(224, 128), (64, 128), (224, 64)])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_parts_compile(capability: int, rows: int, dim: int) -> None:
    tile = streaming_tile(rows, dim, 2, gpu(capability))
    check_compiles(part_kernel, capability, tile, CAUSAL=rows == 64, M=tile.rows, N=tile.keys, DIM=dim, WIDTH=dim)


@pytest.mark.parametrize("block", [True, False], ids=["with-block", "prefix-alone"])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_merge_compiles(capability: int, block: bool) -> None:
    none = {} if block else {"lse_block": None}
    check_compiles(
        merge_kernel, capability, Tile(1, 128, 4, 2), **none, BLOCK=block, N=128, SPLITS=64, DIM=128, WIDTH=128
    )


def test_compiles_for_strides_of_one_and_without_lengths() -> None:
    ones = {"stride_lb": 1, "stride_lh": 1}  # an argument that is 1 is compiled into the kernel, as None is
    check_compiles(part_kernel, 90, SMALL, **ones, CAUSAL=True, M=16, N=16, DIM=64, WIDTH=64)
    check_compiles(part_kernel, 90, SMALL, **ones, lengths=None, CAUSAL=True, M=16, N=16, DIM=64, WIDTH=64)
    none = dict.fromkeys(("lengths", "lse_prefix", "lse_block"))
    check_compiles(merge_kernel, 90, SMALL, **ones, **none, BLOCK=True, N=16, SPLITS=1, DIM=64, WIDTH=64)
