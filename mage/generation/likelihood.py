"""How likely an autoregressive model finds answers that were written in another way."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mage.attention.flash import fused_partial_attention
from mage.attention.reference import group_rows, merge, ungroup_rows, visible_rows
from mage.errors import UserError
from mage.generation.prefill import Prefix
from mage.models.checkpoint import LanguageModel
from mage.models.diffusion import DiffusionSpec


def check_likelihood(spec: DiffusionSpec) -> None:
    """Raise `UserError` for a model without an autoregressive reading of finished tokens."""
    if not spec.causal:
        raise UserError(
            "runner.likelihood=true: the model's prefix is not causal, so that it gives finished tokens no likelihood. "
            "Allowed: false, or a model with model.prefix_attention=causal."
        )


@torch.inference_mode()
def answer_nll(model: LanguageModel, prefix: Prefix, answers: Sequence[Sequence[int]]) -> list[float]:
    """Return the negative log-likelihood, in nats, of each row's whole answer under the model's body.

    One causal forward over `answers[row]`, at least one token each, stop token included where there is one, dense over
    the row's prefix. Nothing is written: cache and prefix are as before. Raises `UserError` unless that is causal.
    """
    check_likelihood(model.spec)
    if any(not answer for answer in answers):
        raise ValueError("an answer needs at least one token")
    device, lengths = model.device, torch.tensor(prefix.lengths, device=model.device)
    width, prefixed = max(map(len, answers)), max(prefix.lengths)
    # Shorter rows are padded on the right, where no earlier position looks.
    tokens = torch.tensor([[*answer, *[0] * (width - len(answer))] for answer in answers], device=device)
    valid = torch.arange(width, device=device) < torch.tensor([len(a) for a in answers], device=device)[:, None]
    visible = (torch.arange(prefixed, device=device) < lengths[:, None])[:, None, None]
    positions = lengths[:, None] + torch.arange(width - 1, device=device)

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = prefix.cache.keys[layer, :, :, :prefixed], prefix.cache.values[layer, :, :, :prefixed]
        rows, scale = group_rows(q, k.shape[1]), q.shape[-1] ** -0.5
        before = fused_partial_attention(rows, keys, values, scale, visible)
        seen = visible_rows(q.shape[2], q.shape[1] // k.shape[1], q.device, causal=True)
        within = fused_partial_attention(rows, k, v, scale, seen)
        return ungroup_rows(merge(*before, *within), q.shape[1]).to(q.dtype)

    # The first token is told by the prefix, each other one by the token before it.
    logits = prefix.last_logits[:, None]
    if width > 1:
        logits = torch.cat((logits, model.body.logits(model.body.hidden(tokens[:, :-1], positions, attend))), 1)
    nll = -logits.log_softmax(-1).gather(2, tokens[..., None])[..., 0]
    return (nll.double() * valid).sum(1).tolist()
