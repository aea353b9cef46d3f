"""What kernels are compared with: the plain torch operations in float32, wherever these are not what is timed."""

from __future__ import annotations

import torch
from torch import Tensor

from mage.attention.operations import Operations
from mage.attention.torch_operations import TorchOperations
from mage.timing.kernel_shape import Operands

REFERENCE = TorchOperations(plain=True)
FUSED = ("exact", "sparse")  # which `mage.attention.flash` computes otherwise, on a CPU in float32
OPERATIONS = {
    "dense": "exact",
    "fused": "exact",
    "mass": "mass",
    "gather": "gather",
    "sparse": "sparse",
    "page_bounds": "page_bounds",
    "page_scores_sum": "page_scores",
    "page_scores_max": "page_scores",
    "prefill": "prefill",
}
"""Which operation a kernel of ours is; the choice of entries is none."""


def relative_error(got: Tensor, wanted: Tensor) -> float:
    """Return the norm of the difference over that of `wanted`; NaN anywhere gives NaN."""
    wanted = wanted.float()
    return float((got.float() - wanted).norm() / wanted.norm().clamp(min=1e-30))


def is_reference(kernel: str, ours: Operations, operands: Operands) -> bool:
    """Whether a kernel of `ours` is the code of the reference: it would be compared with itself."""
    name = OPERATIONS.get(kernel)
    if name is None or getattr(type(ours), name) is not getattr(TorchOperations, name):
        return False
    return not (name in FUSED and operands.device.type == "cpu" and operands.dtype == torch.float32)


def choice_error(got: Tensor, scores: Tensor) -> float:
    """Return 0.0 where indices `got` `[batch, heads, k]` choose the highest of the scores `[batch, heads, n]`, as
    `torch.sort` finds them, else 1.0: where several are equal, any of them will do."""
    scores = scores.float()
    wanted = scores.sort(-1, descending=True).values[..., : got.shape[-1]]
    return float(not torch.equal(scores.gather(-1, got).sort(-1, descending=True).values, wanted))
