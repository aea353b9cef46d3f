"""How far a kernel may be from its reference in float32."""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}


def relative_error(got: Tensor, wanted: Tensor) -> float:
    """Return the norm of the difference over that of what was wanted; NaN anywhere gives NaN, which no bound admits.

    Infinities must stand in the same places, and count no further.
    """
    got, wanted = got.double().cpu(), wanted.double().cpu()
    endless = wanted.isinf()
    assert torch.equal(got[endless], wanted[endless]), "infinities in other places"
    difference = (got - wanted).masked_fill(endless, 0.0).norm()
    return float(difference / wanted.masked_fill(endless, 0.0).norm().clamp(min=1e-30))
