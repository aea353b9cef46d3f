"""Rotary position embedding in the split-half layout of the Hugging Face checkpoints, whole or partial, with YaRN."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mage.models.config import BodyConfig, Yarn


@dataclass(frozen=True)
class PositionTables:
    """What positions do to queries and keys, the same in all layers.

    cos, sin: `[batch, 1, rows, rotary_width / 2]`, one angle a pair of dimensions. query_scale: `[batch, 1, rows, 1]`;
    None: queries are not scaled.
    """

    cos: Tensor
    sin: Tensor
    query_scale: Tensor | None

    def queries(self, q: Tensor) -> Tensor:
        """Rotate and scale query heads `[batch, heads, rows, head_dim]`."""
        # Attention stacks the heads that share a KV head, which then takes no copy.
        rotated = rotate(q, self.cos, self.sin, torch.contiguous_format)
        return rotated if self.query_scale is None else rotated * self.query_scale

    def keys(self, k: Tensor) -> Tensor:
        """Rotate key heads `[batch, heads, rows, head_dim]`."""
        return rotate(k, self.cos, self.sin)


def position_tables(positions: Tensor, config: BodyConfig, dtype: torch.dtype) -> PositionTables:
    """Return the tables of `positions` `[batch, rows]` in `dtype`.

    Angles are computed in float32 whatever `dtype` is: at long context bfloat16 positions would collide.
    """
    angles = positions[:, None, :, None].float() * rotary_frequencies(config, positions.device)
    cos, sin = angles.cos(), angles.sin()
    if config.yarn is not None:
        cos, sin = cos * config.yarn.attention_factor, sin * config.yarn.attention_factor
    query_scale = None
    if config.query_scale is not None:
        turns = torch.floor(positions[:, None, :, None] / config.query_scale.original_positions)
        query_scale = (1 + config.query_scale.beta * torch.log(1 + turns)).to(dtype)
    return PositionTables(cos.to(dtype), sin.to(dtype), query_scale)


def rotary_frequencies(config: BodyConfig, device: torch.device) -> Tensor:
    """Return radians a position, `[rotary_width / 2]` in float32, the fastest pair first."""
    width = config.rotary_width
    exponent = torch.arange(0, width, 2, device=device, dtype=torch.float32) / width
    frequencies = config.rope_theta**-exponent
    return frequencies if config.yarn is None else _stretched(frequencies, config.yarn, width, config.rope_theta)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, memory_format: torch.memory_format = torch.preserve_format) -> Tensor:
    """Rotate heads `x` `[batch, heads, rows, head_dim]` by tables `[batch, 1, rows, pairs]`.

    The first `pairs` dimensions turn with the next `pairs`; dimensions behind them stay as they are. `memory_format`:
    of what is returned.
    """
    out: Tensor = _Rotation.apply(x, cos, sin, memory_format)
    return out


def _stretched(frequencies: Tensor, yarn: Yarn, width: int, theta: float) -> Tensor:
    """YaRN's interpolation by parts (arXiv 2309.00071, section 3.2).

    Fast pairs keep their frequency, slow ones are divided by the factor, a linear ramp lies between. The limits are
    those of transformers, `modeling_rope_utils._compute_yarn_parameters`.
    """

    def pair(turns: float) -> float:
        """The (fractional) pair that makes this many turns within the trained window."""
        return width * math.log(yarn.original_positions / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first, last = pair(yarn.beta_fast), pair(yarn.beta_slow)
    if yarn.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, width - 1)
    if first == last:
        last += 0.001
    pairs = torch.arange(width // 2, device=frequencies.device, dtype=torch.float32)
    slow = ((pairs - first) / (last - first)).clamp(0, 1)
    return frequencies / yarn.factor * slow + frequencies * (1 - slow)


class _Rotation(torch.autograd.Function):
    """The rotation and its gradient, which is the rotation back: half the memory traffic of what autograd derives."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, memory_format: torch.memory_format) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin, 1, memory_format)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        cos, sin = ctx.saved_tensors
        return _rotated(grad, cos, sin, -1, torch.preserve_format), None, None, None


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, direction: int, memory_format: torch.memory_format) -> Tensor:
    pairs = cos.shape[-1]
    first, second = x[..., :pairs], x[..., pairs : 2 * pairs]
    out = torch.empty_like(x, memory_format=memory_format)
    torch.mul(first, cos, out=out[..., :pairs]).addcmul_(second, sin, value=-direction)
    torch.mul(second, cos, out=out[..., pairs : 2 * pairs]).addcmul_(first, sin, value=direction)
    if 2 * pairs < x.shape[-1]:
        out[..., 2 * pairs :] = x[..., 2 * pairs :]
    return out
