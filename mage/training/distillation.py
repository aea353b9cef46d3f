"""The loss of noised blocks whose target is what the base model itself would write."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mage.models.transformer import Transformer
from mage.training.fused_loss import Taught, output_losses
from mage.training.packed import PackedLesson
from mage.training.packed_attention import block_hidden, clean_rows


@dataclass(frozen=True)
class BlockOutcome:
    """`loss`: to differentiate. `right` `[blocks, block_size]`: predicted tokens that the model would name. `surest`
    likewise: the most confident prediction of each block, which decoding would take first."""

    loss: Tensor
    right: Tensor
    surest: Tensor


def block_outcome(
    base: Transformer, adapted: Transformer, lesson: PackedLesson, taught: Tensor, teacher_weight: float
) -> BlockOutcome:
    """Predict the tokens of a lesson's blocks that have a weight, logits of slot i for token i + 1.

    Cross-entropy on the answer; in blocks that are `taught` `[blocks]`, `1 - w` of it and `w = teacher_weight` of the
    cross-entropy to the base model's own distribution, given the clean tokens before (that is the KL divergence from
    it, but for a constant). Mean over the tokens by their weights.
    """
    clean = clean_rows(base, lesson)
    hidden = block_hidden(adapted, lesson, clean)
    asked = lesson.weights[:, 1:] > 0
    places = F.pad(asked, (1, 0), value=False)
    teacher = None
    soft = (taught[:, None] & lesson.real[:, 1:])[asked].nonzero()[:, 0]
    if teacher_weight and len(soft):
        before = (lesson.starts[:, None] + torch.arange(asked.shape[1], device=asked.device))[asked][soft]
        teacher = Taught(soft, clean.hidden[before], teacher_weight)
    weights = lesson.weights[places]
    losses = output_losses(
        hidden[:, :-1][asked], base.lm_head.weight, lesson.targets[places], weights / weights.sum(), teacher
    )
    right = torch.zeros_like(places)
    right[places] = losses.top
    confidence = torch.full(places.shape, -torch.inf, device=places.device)
    confidence[places] = losses.confidence
    surest = F.one_hot(confidence.argmax(-1), places.shape[1]).bool()
    return BlockOutcome(losses.loss, right, surest)
