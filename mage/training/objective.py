"""The loss of a batch of noised answers, and how many of them were right."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mage.models.transformer import Transformer
from mage.training.noise import Noised
from mage.training.shared_prefix import shared_prefix_hidden


@dataclass(frozen=True)
class Outcome:
    """`loss`: weighted mean cross-entropy, to differentiate. `right` `[batch, branches, block_size]`: masked tokens
    that the model would name."""

    loss: Tensor
    right: Tensor


def branch_outcome(
    body: Transformer, contexts: Tensor, positions: Tensor, branches: Tensor, noised: Noised, block_size: int
) -> Outcome:
    """Predict the masked tokens of the last block of every branch, logits at position i for token i.

    contexts, positions `[batch, length]`; branches `[batch, branches, blocks * block_size]`, all clean; `noised` is
    their last block.
    """
    clean = branches[:, :, -block_size:]
    shown = torch.cat((branches[:, :, :-block_size], noised.tokens), dim=2)
    hidden = shared_prefix_hidden(body, contexts, positions, shown, block_size)
    logits = body.logits(hidden[noised.masked])  # [masked tokens, vocab]
    target, weights = clean[noised.masked], noised.weights[noised.masked]
    losses = F.cross_entropy(logits, target, reduction="none")
    right = torch.zeros_like(noised.masked)
    right[noised.masked] = logits.argmax(-1) == target
    return Outcome((losses * weights).sum() / weights.sum(), right)
