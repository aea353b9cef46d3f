"""The gather kernel against indexing in torch."""

from __future__ import annotations

import pytest
import torch

from mage.attention.kernels.gather import entries_per_program, gather_entries, gather_kernel
from tests.mage.kernels.compiling import CAPABILITIES, SHARED_LIMIT, compiled


@pytest.mark.parametrize(
    ("batch", "heads", "share", "capacity", "count", "dim"),
    [(1, 2, 1, 40, 7, 16), (2, 1, 3, 70, 33, 64), (3, 2, 1, 9, 64, 128), (1, 1, 8, 5, 1, 80)],
)
def test_gathers_what_indexing_gathers(
    batch: int, heads: int, share: int, capacity: int, count: int, dim: int, dtype: torch.dtype, device: str
) -> None:
    torch.manual_seed(0)
    # A cache whose rows are longer than the view of it, and entries of keys and values that stand in other orders.
    keys = torch.randn(batch, heads, capacity + 3, dim, dtype=dtype, device=device)[:, :, :capacity]
    values = torch.randn(batch, capacity, heads, dim, dtype=dtype, device=device).transpose(1, 2)
    indices = torch.randint(-1, capacity, (batch, heads * share, count), device=device)
    indices[..., count // 2 :: 3] = -1
    keys[:, :, 0] = float("nan")  # what a clamped -1 would read
    indices[indices == 0] = 1
    out = torch.full((2, batch, heads * share, count + 2, dim), float("nan"), dtype=dtype, device=device)
    gather_entries(keys, values, indices, out[0, :, :, :count], out[1, :, :, :count])
    rows = indices.clamp(min=0)[..., None].expand(-1, -1, -1, dim)
    for got, source in zip(out, (keys, values)):
        wanted = source.repeat_interleave(share, 1).gather(2, rows).masked_fill(indices[..., None] < 0, 0.0)
        assert torch.equal(got[:, :, :count], wanted)
        assert got[:, :, count:].isnan().all()


def test_nothing_to_gather(device: str) -> None:
    keys = torch.randn(1, 1, 4, 16, device=device)
    out = torch.empty(1, 1, 0, 16, device=device)
    gather_entries(keys, keys, torch.empty(1, 1, 0, dtype=torch.int64, device=device), out, out)


def test_programs_hold_a_bounded_number_of_entries() -> None:
    assert [entries_per_program(512, 128), entries_per_program(512, 64), entries_per_program(3, 16)] == [16, 32, 4]


@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_compiles(capability: int, dim: int) -> None:
    pointers = {name: "*bf16" for name in ("keys", "values", "indices", "out_keys", "out_values")} | {"indices": "*i64"}
    numbers = [name for name in gather_kernel.arg_names if name not in (*pointers, "BLOCK", "DIM")]
    done = compiled(
        gather_kernel,
        pointers | dict.fromkeys(numbers, "i32"),
        {"BLOCK": entries_per_program(512, dim), "DIM": dim},
        capability,
        aligned=("dim",),
    )
    assert done.shared <= SHARED_LIMIT[capability]
    assert done.stack == 0
