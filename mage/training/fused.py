"""RMSNorm with a gradient of its own: on the CPU, training spends less time moving intermediate results."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class FusedRMSNorm(nn.Module):
    """Equals `nn.RMSNorm` over the last dimension; the gradient is computed in five passes instead of a dozen."""

    def __init__(self, norm: nn.RMSNorm) -> None:
        super().__init__()
        self.weight = norm.weight
        self.eps = norm.eps or torch.finfo(norm.weight.dtype).eps

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _RMSNorm.apply(x, self.weight, self.eps)
        return out


def fuse_norms(module: nn.Module) -> None:
    """Replace every `nn.RMSNorm` below `module`; parameters keep their names."""
    for name, child in module.named_children():
        if isinstance(child, nn.RMSNorm):
            setattr(module, name, FusedRMSNorm(child))
        else:
            fuse_norms(child)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        inverse = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_().to(x.dtype)
        normed = x * inverse
        ctx.save_for_backward(normed, inverse, weight)
        return normed * weight

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        normed, inverse, weight = ctx.saved_tensors
        weight_grad = (grad * normed).flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        scaled = grad * weight
        along = (scaled * normed).sum(-1, keepdim=True).div_(normed.shape[-1])
        return scaled.addcmul_(normed, along, value=-1).mul_(inverse), weight_grad, None
