"""Block-causal attention of the prefill, against the torch path."""

from __future__ import annotations

import pytest
import torch

from mage.attention.kernels.block_causal import block_causal_kernel, prefill_attention
from mage.attention.kernels.tiles import Tile, streaming_tile
from mage.attention.prefill import block_causal_attention
from tests.mage.kernels.attention_compiling import check_compiles, gpu
from tests.mage.kernels.block_problem import poisoned_memory
from tests.mage.kernels.compiling import CAPABILITIES
from tests.mage.kernels.error import TOLERANCE, relative_error

SMALL = Tile(rows=16, keys=16, warps=4, stages=2)


@pytest.mark.parametrize(
    ("batch", "heads", "kv_heads", "dim", "start", "rows", "block_size", "tile"),
    [
        pytest.param(2, 2, 1, 16, 0, 50, 8, SMALL, id="from-the-start"),
        pytest.param(1, 3, 1, 64, 40, 33, 8, SMALL, id="a-later-chunk-last-block-incomplete"),
        pytest.param(1, 2, 2, 32, 0, 41, 1, SMALL, id="causal"),
        pytest.param(1, 1, 1, 128, 7, 20, 1, SMALL, id="causal-odd-start"),
        pytest.param(1, 7, 1, 16, 64, 40, 64, Tile(32, 16, 4, 2), id="group-7-block-64"),
        pytest.param(1, 2, 1, 32, 30, 45, 5, Tile(64, 32, 4, 2), id="odd-block"),
        pytest.param(1, 1, 1, 80, 0, 3, 4, SMALL, id="less-than-a-block-padded-dim"),
        pytest.param(1, 2, 1, 64, 32, 100, 32, None, id="chosen-tile"),
    ],
)
def test_is_the_attention_of_the_torch_path(
    batch: int,
    heads: int,
    kv_heads: int,
    dim: int,
    start: int,
    rows: int,
    block_size: int,
    tile: Tile | None,
    dtype: torch.dtype,
    device: str,
) -> None:
    torch.manual_seed(0)
    # Views as a fused projection and a cache give them.
    q = torch.randn(batch, rows, heads, dim, dtype=dtype, device=device).transpose(1, 2)
    k = torch.randn(batch, kv_heads, start + rows + 9, dim, dtype=dtype, device=device)[:, :, : start + rows]
    v = torch.randn(batch, start + rows, kv_heads, dim, dtype=dtype, device=device).transpose(1, 2)
    with poisoned_memory():
        got = prefill_attention(q, k, v, start, block_size, tile=tile)
    assert got.shape == q.shape and got.dtype == dtype
    wanted = block_causal_attention(q.float(), k.float(), v.float(), start, block_size)
    assert relative_error(got, wanted) <= TOLERANCE[dtype]


def test_reads_no_key_beyond_the_last_block_of_a_row(device: str) -> None:
    q, k, v = (torch.randn(1, 1, 48, 16, device=device) for _ in range(3))
    v[:, :, 32:] = float("nan")
    got = prefill_attention(q, k, v, 0, 16, tile=SMALL)
    assert not got[:, :, :32].isnan().any()


def test_refuses_a_start_inside_a_block() -> None:
    q = torch.zeros(1, 1, 8, 16)
    with pytest.raises(ValueError, match="not a multiple of the block size 8"):
        prefill_attention(q, q, q, 3, 8)


@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_compiles(capability: int, dim: int) -> None:
    tile = streaming_tile(4096, dim, 2, gpu(capability))
    check_compiles(block_causal_kernel, capability, tile, M=tile.rows, N=tile.keys, DIM=dim, WIDTH=dim)
