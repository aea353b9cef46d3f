"""Rotary position embedding in the split-half layout of the Hugging Face checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor


def rotary_tables(positions: Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return cosine and sine tables `[batch, 1, rows, head_dim]` for `positions` `[batch, rows]`.

    Angles are computed in float32 whatever `dtype` is: at long context bfloat16 positions would collide.
    """
    exponent = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    angles = positions[:, None, :, None].float() * (theta**-exponent)  # [batch, 1, rows, head_dim / 2]
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate heads `x` `[batch, heads, rows, head_dim]` by the tables of `rotary_tables`."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
