"""Where and in which dtypes kernels are tested: interpreted on a CPU; the same tests on a GPU where there is one."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest
import torch

# The interpreter computes bfloat16 wrongly without a word.
ON_GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))


@pytest.fixture
def device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    versions = [tuple(map(int, version(name).split(".")[:2])) for name in ("triton", "numpy")]
    if versions[0] < (3, 7) and versions[1] >= (2, 4):
        pytest.skip("the interpreter of Triton 3.6 does not loop with numpy 2.4")
    return "cpu"


@pytest.fixture(
    params=[
        pytest.param(torch.float32, id="float32"),
        pytest.param(torch.float16, id="float16"),
        pytest.param(torch.bfloat16, id="bfloat16", marks=ON_GPU),
    ]
)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that `torch.empty` gives holds NaN: what a kernel forgets to write shows."""
    empty = torch.empty

    def filled(*arguments: Any, **options: Any) -> torch.Tensor:
        out = empty(*arguments, **options)
        return out.fill_(float("nan")) if out.is_floating_point() else out

    monkeypatch.setattr(torch, "empty", filled)
