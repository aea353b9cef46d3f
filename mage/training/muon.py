"""Muon: momentum whose update of a matrix is made orthogonal.

Source: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). torch has it from 2.9 on;
this project holds from 2.6 on.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

# Coefficients of the quintic Newton-Schulz iteration, from the source: steep at 0, singular values end near 1.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """For two-dimensional weights between hidden layers; embeddings, output matrix and norms go to AdamW.

    `lr`: size of a step in spectral norm, times `sqrt(max(1, rows / columns))`. `momentum`: Nesterov momentum.
    `weight_decay`: decoupled, scaled by `lr`.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.01) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].mul_(momentum).add_(weight.grad)
                update = orthogonalise(weight.grad.add(state["momentum"], alpha=momentum))
                weight.mul_(1 - lr * group["weight_decay"])
                weight.add_(update, alpha=-lr * max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5)


def orthogonalise(matrix: Tensor) -> Tensor:
    """Return the matrix with its singular values moved close to 1 (between about 0.7 and 1.2), in bfloat16."""
    first, third, fifth = _QUINTIC
    x = (matrix / (matrix.norm() + 1e-7)).bfloat16()
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    for _ in range(_ITERATIONS):
        square = x @ x.T
        x = first * x + (third * square + fifth * square @ square) @ x
    return x.T if tall else x
