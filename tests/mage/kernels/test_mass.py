"""The mass kernel against the probabilities that plain torch gives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mage.attention.kernels.mass import LOG2_E, attention_mass, mass_form, mass_kernel, programs_per_head
from mage.attention.reference import masked_scores
from tests.mage.kernels.compiling import CAPABILITIES, SHARED_LIMIT, compiled
from tests.mage.kernels.error import TOLERANCE, relative_error


def wanted_mass(
    q: Tensor, keys: Tensor, lengths: list[int], lse: Tensor, scale: float, reduction: str, width: int
) -> Tensor:
    scores = masked_scores(q.float(), keys[:, :, :width].float(), scale, None)
    probabilities = (scores - lse[..., None]).exp()
    mass = probabilities.mean(2) if reduction == "mean" else probabilities.amax(2)
    for row, length in enumerate(lengths):
        mass[row, :, length:] = float("-inf")
    return mass


def operands(
    lengths: list[int], heads: int, rows: int, capacity: int, dim: int, dtype: torch.dtype, device: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries that stand by position, a cache that holds NaN beyond each length, and a plausible log-sum-exp."""
    torch.manual_seed(0)
    batch = len(lengths)
    q = torch.randn(batch, rows, heads, dim, dtype=dtype, device=device).transpose(1, 2)
    keys = torch.randn(batch, heads, capacity + 5, dim, dtype=dtype, device=device)[:, :, :capacity]
    for row, length in enumerate(lengths):
        keys[row, :, length:] = float("nan")
    lse = torch.randn(batch, heads, rows, device=device) + 5.0
    return q, keys, torch.tensor(lengths, dtype=torch.int32, device=device), lse


SHAPES = [
    # lengths, KV heads, rows = group * block size, capacity, d, width
    ([70], 2, 1 * 4, 70, 16, 70),
    ([131, 0, 64], 1, 3 * 5, 150, 64, 140),  # a group of 3, blocks of 5
    ([300, 17], 2, 7 * 32, 400, 128, 321),
    ([90], 1, 8 * 64, 100, 32, 100),
    ([50], 2, 6 * 8, 64, 80, 64),  # channels that are no power of two
    ([0], 1, 16, 8, 16, 3),
]


@pytest.mark.parametrize("reduction", ["mean", "max"])
@pytest.mark.parametrize(("lengths", "heads", "rows", "capacity", "dim", "width"), SHAPES)
def test_mass(
    lengths: list[int],
    heads: int,
    rows: int,
    capacity: int,
    dim: int,
    width: int,
    reduction: str,
    dtype: torch.dtype,
    device: str,
    poisoned: None,
) -> None:
    q, keys, device_lengths, lse = operands(lengths, heads, rows, capacity, dim, dtype, device)
    got = attention_mass(q, keys, device_lengths, lse, dim**-0.5, reduction, width)
    wanted = wanted_mass(q, keys, lengths, lse, dim**-0.5, reduction, width)
    assert got.dtype == torch.float32
    assert relative_error(got, wanted) <= TOLERANCE[dtype]


@pytest.mark.parametrize(("page_size", "pages"), [(4, 33), (16, 9), (64, 3), (7, 19), (128, 2)])
def test_mass_by_page(page_size: int, pages: int, dtype: torch.dtype, device: str, poisoned: None) -> None:
    lengths = [130, 5, 0]
    q, keys, device_lengths, lse = operands(lengths, 2, 2 * 8, 133, 32, dtype, device)
    got = attention_mass(q, keys, device_lengths, lse, 0.2, "mean", pages, page_size)
    mass = wanted_mass(q, keys, lengths, lse, 0.2, "mean", 133)
    filled = F.pad(mass, (0, max(0, pages * page_size - 133)), value=float("-inf"))[..., : pages * page_size]
    filled = filled.unflatten(2, (-1, page_size))
    wanted = filled.clamp(min=0.0).sum(-1).masked_fill(filled[..., 0] < 0, float("-inf"))
    assert relative_error(got, wanted) <= TOLERANCE[dtype]


def test_the_largest_of_a_page_is_not_offered(device: str) -> None:
    q, keys, lengths, lse = operands([8], 1, 4, 8, 16, torch.float32, device)
    with pytest.raises(ValueError, match="reduction=max"):
        attention_mass(q, keys, lengths, lse, 1.0, "max", 2, 4)


def test_rows_are_held_as_long_as_they_fit() -> None:
    qwen7, wide, small = mass_form(7 * 32, 128, 2), mass_form(8 * 64, 128, 2), mass_form(4, 16, 4)
    assert (qwen7.rows, qwen7.tiles, qwen7.held) == (64, 4, True)
    assert (wide.tiles, wide.held) == (8, False)
    assert (small.rows, small.tiles, small.held) == (16, 1, True)
    assert mass_form(6 * 32, 128, 2).tiles == 3  # no tile of padding
    # Two programs fit one SM of an H200, which has 228 KiB, one of them reserved for each.
    assert 2 * (qwen7.shared + 1024) <= 228 * 1024


def test_programs_fill_the_device_in_whole_rounds() -> None:
    assert programs_per_head(4, 2048, 264) == 66
    assert programs_per_head(64, 2048, 264) * 64 <= 4 * 264
    assert programs_per_head(64, 2048, 264) * 64 >= 0.96 * 264
    assert programs_per_head(1000, 2048, 264) == 1
    assert programs_per_head(4, 3, 264) == 3  # no more than there are tiles


@pytest.mark.parametrize(
    ("capability", "rows", "dim", "mean"),
    [
        *((capability, 7 * 32, 128, True) for capability in CAPABILITIES),
        *((capability, 4 * 32, 64, False) for capability in CAPABILITIES),
        (90, 8 * 64, 128, True),  # rows that are not held
    ],
)
def test_compiles(capability: int, rows: int, dim: int, mean: bool) -> None:
    form = mass_form(rows, dim, 2)
    types = {"q": "*bf16", "keys": "*bf16", "lengths": "*i32", "lse": "*fp32", "out": "*fp32", "scale": "fp32"}
    constexprs = {
        "MEAN": mean,
        "PAGE": 16 if mean else 1,
        "ROWS": form.rows,
        "TILES": form.tiles,
        "HELD": form.held,
        "KEYS": form.keys,
        "DIM": form.dim,
        "LOG2_E": LOG2_E,
    }
    rest = dict.fromkeys((name for name in mass_kernel.arg_names if name not in types | constexprs), "i32")
    done = compiled(
        mass_kernel,
        types | rest,
        constexprs,
        capability,
        num_warps=form.warps,
        num_stages=form.stages,
        aligned=("dim",),
    )
    assert done.shared <= min(SHARED_LIMIT[capability], form.shared + 1024)
    assert done.stack <= {80: 32, 90: 0, 100: 256}[capability]  # bytes a thread: next to nothing is spilled
