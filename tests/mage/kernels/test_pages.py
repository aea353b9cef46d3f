"""Quest's kernels against its formula in plain torch."""

from __future__ import annotations

import pytest
import torch

from mage.attention.kernels.pages import PAGES, bounds_kernel, page_bounds, page_scores, scores_kernel
from tests.mage.kernels.compiling import CAPABILITIES, SHARED_LIMIT, compiled
from tests.mage.kernels.error import TOLERANCE, relative_error


@pytest.mark.parametrize("dim", [16, 80, 128])
@pytest.mark.parametrize(
    ("page_size", "first_page", "lengths"), [(4, 0, [13, 0]), (16, 1, [40, 33, 5]), (7, 2, [50]), (40, 0, [100, 41])]
)
def test_bounds(page_size: int, first_page: int, lengths: list[int], dim: int, dtype: torch.dtype, device: str) -> None:
    torch.manual_seed(0)
    capacity = max(lengths) + 3
    keys = torch.randn(len(lengths), capacity, 2, dim, dtype=dtype, device=device).transpose(1, 2)
    for row, length in enumerate(lengths):
        keys[row, :, length:] = float("nan")
    pages = -(-max(lengths) // page_size) + 1
    out = torch.full((2, len(lengths), 2, pages, dim), float("nan"), device=device)
    page_bounds(keys, torch.tensor(lengths, dtype=torch.int32, device=device), page_size, first_page, *out)
    assert out[:, :, :, :first_page].isnan().all()
    for row, length in enumerate(lengths):
        for page in range(first_page, pages):
            held = keys[row, :, page * page_size : min(length, (page + 1) * page_size)].float()
            for got, bound in zip(out[:, row, :, page], (torch.amin, torch.amax)):
                assert torch.equal(got, bound(held, 1) if held.shape[1] else torch.zeros_like(got))


def test_bounds_take_the_dtype_they_are_kept_in(device: str) -> None:
    keys = torch.randn(1, 1, 8, 16, dtype=torch.float16, device=device)
    out = torch.empty(2, 1, 1, 2, 16, dtype=torch.float16, device=device)
    page_bounds(keys, torch.tensor([8], dtype=torch.int32, device=device), 4, 0, *out)
    assert torch.equal(out[0, 0, 0], keys.view(2, 4, 16).amin(1))


@pytest.mark.parametrize("reduction", ["sum", "max"])
@pytest.mark.parametrize(
    ("batch", "kv_heads", "rows", "pages", "dim"),
    [(1, 2, 4, 9, 16), (2, 1, 3 * 5, 70, 64), (1, 1, 7 * 32, 130, 128), (2, 2, 8, 65, 80)],
)
def test_scores(
    batch: int,
    kv_heads: int,
    rows: int,
    pages: int,
    dim: int,
    reduction: str,
    dtype: torch.dtype,
    device: str,
    poisoned: None,
) -> None:
    torch.manual_seed(0)
    q = torch.randn(batch, rows, kv_heads, dim, dtype=dtype, device=device).transpose(1, 2)
    bounds = torch.randn(2, batch, kv_heads, pages + 4, dim, device=device).to(dtype).float().sort(0).values
    low, high = bounds[:, :, :, :pages]
    got = page_scores(q, low, high, reduction)
    promised = q.float().clamp(min=0) @ high.mT + q.float().clamp(max=0) @ low.mT
    wanted = promised.sum(2) if reduction == "sum" else promised.amax(2)
    assert got.dtype == torch.float32
    assert relative_error(got, wanted) <= TOLERANCE[dtype]


def test_a_score_bounds_every_key_of_its_page(device: str) -> None:
    torch.manual_seed(0)
    q, keys = torch.randn(1, 2, 6, 16, device=device), torch.randn(1, 2, 40, 16, device=device)
    low, high = torch.empty(2, 1, 2, 5, 16, device=device)
    page_bounds(keys, torch.tensor([40], dtype=torch.int32, device=device), 8, 0, low, high)
    best = (q @ keys.mT).amax(2).unflatten(-1, (5, 8)).amax(-1)
    assert (page_scores(q, low, high, "max") >= best - 1e-5).all()


@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_compiles(capability: int, dim: int) -> None:
    pointers = {"keys": "*bf16", "lengths": "*i32", "low": "*bf16", "high": "*bf16"}
    sizes = {"PAGE": 16, "ROWS": 16, "DIM": dim}
    numbers = {name: "i32" for name in bounds_kernel.arg_names if name not in pointers | sizes}
    done = [compiled(bounds_kernel, pointers | numbers, sizes, capability, aligned=("dim",))]
    pointers = {"q": "*bf16", "low": "*bf16", "high": "*bf16", "out": "*fp32"}
    for summed in (True, False):
        sizes = {"SUM": summed, "ROWS": 64, "PAGES": PAGES, "DIM": dim}
        numbers = {name: "i32" for name in scores_kernel.arg_names if name not in pointers | sizes}
        done.append(compiled(scores_kernel, pointers | numbers, sizes, capability, aligned=("dim",)))
    assert max(one.shared for one in done) <= SHARED_LIMIT[capability]
    assert [one.stack for one in done] == [0, 0, 0]
