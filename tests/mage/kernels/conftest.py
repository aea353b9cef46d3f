"""Where and in which dtypes kernels are tested: interpreted on a CPU; the same tests on a GPU where there is one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

# The interpreter computes bfloat16 wrongly without a word.
ON_GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))


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
