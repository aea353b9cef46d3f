"""Launchers read no length on the host: once captured, they follow what the device tensors hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mage.attention.kernels.gather import gather_entries
from mage.attention.kernels.mass import attention_mass
from mage.attention.kernels.pages import page_bounds, page_scores
from tests.mage.kernels.error import relative_error

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CAPACITY, PAGE = 200, 16


def launches() -> dict[str, tuple[list[Tensor], Callable[[], list[Tensor]]]]:
    """Of each launcher: the tensors that change between two replays, and a call that gives its results."""
    torch.manual_seed(0)
    q = torch.randn(2, 2, 64, 64, device="cuda", dtype=torch.bfloat16)
    keys, values = torch.randn(2, 2, 2, CAPACITY, 64, device="cuda", dtype=torch.bfloat16)
    lengths = torch.tensor([90, 3], dtype=torch.int32, device="cuda")
    lse = torch.randn(2, 2, 64, device="cuda") + 5.0
    indices = torch.randint(-1, CAPACITY, (2, 2, 40), device="cuda")
    bounds = torch.randn(2, 2, 2, -(-CAPACITY // PAGE), 64, device="cuda", dtype=torch.bfloat16)
    low, high = bounds.sort(0).values
    out = [torch.empty(2, 2, 40, 64, device="cuda", dtype=torch.bfloat16) for _ in range(2)]
    limits = [torch.empty_like(low), torch.empty_like(low)]

    def gathered() -> list[Tensor]:
        gather_entries(keys, values, indices, out[0], out[1])
        return out

    def bounded() -> list[Tensor]:
        page_bounds(keys, lengths, PAGE, 0, limits[0], limits[1])
        return limits

    return {
        "mass": ([q, lengths], lambda: [attention_mass(q, keys, lengths, lse, 0.125, "mean", CAPACITY)]),
        "pages of mass": ([q, lengths], lambda: [attention_mass(q, keys, lengths, lse, 0.125, "mean", 12, PAGE)]),
        "gather": ([keys, indices], gathered),
        "page_bounds": ([keys, lengths], bounded),
        "page_scores": ([q], lambda: [page_scores(q, low, high, "max")]),
    }


@pytest.mark.parametrize("name", ["mass", "pages of mass", "gather", "page_bounds", "page_scores"])
def test_a_replay_computes_what_a_call_computes(name: str) -> None:
    changing, launch = launches()[name]
    launch()  # compiled outside of the graph
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = launch()
    for tensor in changing:
        tensor.copy_(tensor.flip(0))
    graph.replay()
    replayed = [x.clone() for x in captured]
    assert max(relative_error(a, b) for a, b in zip(replayed, launch())) == 0.0
