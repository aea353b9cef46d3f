"""Cross-entropy over a large vocabulary without holding its logits: output matrix, softmax and gradient in one pass.

A chunk of rows goes through the output matrix, its softmax replaces the logits in place and becomes the gradient. That
the gradient is computed in the forward pass is the trick of Liger Kernel's fused linear cross-entropy
(arXiv 2410.10989, section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_ROWS = 64


@dataclass(frozen=True)
class Taught:
    """A second target for some rows: the distribution of a teacher.

    `rows` `[n]`: which ones. `hidden` `[n, hidden]`: the teacher's, for the same output matrix. `weight`: its share of
    the target; the token itself has the rest.
    """

    rows: Tensor
    hidden: Tensor
    weight: float


@dataclass(frozen=True)
class RowLosses:
    """`loss`: the weighted sum, to differentiate. By row: whether the target was the `top` choice, and the
    `confidence`, log-probability of that choice."""

    loss: Tensor
    top: Tensor
    confidence: Tensor


def output_losses(hidden: Tensor, output: Tensor, targets: Tensor, weights: Tensor, taught: Taught | None) -> RowLosses:
    """Return cross-entropies of `hidden` `[rows, hidden]` under the frozen `output` matrix `[vocab, hidden]`.

    targets `[rows]`: ids. weights `[rows]`: of each row's cross-entropy in the sum. Softmax runs in float32.
    """
    loss, top, confidence = _OutputLosses.apply(hidden, output, targets, weights, taught)
    return RowLosses(loss, top, confidence)


class _OutputLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, output: Tensor, targets: Tensor, weights: Tensor, taught: Taught | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        gradient = torch.empty_like(hidden)
        total = hidden.new_zeros((), dtype=torch.float32)
        top = torch.empty_like(targets, dtype=torch.bool)
        confidence = torch.empty_like(weights)
        for low in range(0, hidden.shape[0], CHUNK_ROWS):
            part = slice(low, low + CHUNK_ROWS)
            logits = F.linear(hidden[part], output).float()
            rows = torch.arange(logits.shape[0], device=logits.device)
            best = logits.max(-1)
            shift = logits.logsumexp(-1)
            top[part] = best.indices == targets[part]
            confidence[part] = best.values - shift
            losses = shift - logits[rows, targets[part]]
            own = torch.ones_like(losses)  # weight of the token itself in the target
            told, wanted = _told(taught, low, low + len(rows), output)
            if taught is not None and wanted is not None:
                losses[told] += taught.weight * (
                    logits[rows[told], targets[part][told]] - (wanted * logits[told]).sum(-1)
                )
                own[told] -= taught.weight
            total += (losses * weights[part]).sum()
            slope = logits.sub_(shift[:, None]).exp_()
            slope[rows, targets[part]] -= own
            if taught is not None and wanted is not None:
                slope[told] -= taught.weight * wanted
            gradient[part] = slope.mul_(weights[part][:, None]).to(hidden.dtype) @ output
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(top, confidence)
        return total, top, confidence

    @staticmethod
    def backward(ctx: Any, loss: Tensor, top: Tensor, confidence: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * loss.to(gradient.dtype), None, None, None, None


def _told(taught: Taught | None, low: int, high: int, output: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Rows of a chunk, counted from its first, that have a teacher, and its distribution there."""
    if taught is None:
        return None, None
    here = ((taught.rows >= low) & (taught.rows < high)).nonzero()[:, 0]
    if not len(here):
        return None, None
    return taught.rows[here] - low, F.linear(taught.hidden[here], output).float().softmax(-1)
