"""Prefill: one block-causal pass over the whole blocks of a prompt, done once and decoded from many times."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mage.attention.prefill import block_causal_attention
from mage.errors import UserError
from mage.generation.cache import KVCache
from mage.generation.clock import Clock
from mage.models.checkpoint import LanguageModel
from mage.view import KEPT_QUERIES


@dataclass
class Prefix:
    """The prefilled part of a batch of prompts. It depends on model and prompts alone, not on any method.

    `lengths[row]`: prefilled tokens, `floor(prompt / block size) * block size`; the rest of the prompt, its tail,
    stands in the first generated block. `windows`: the last queries, see `Request`. `last_logits` `[batch, vocab]`:
    of the last prefilled position, what a model with shifted logits starts from. `seconds`: what the prefill took.
    Decoding writes behind the prefix only.
    """

    prompts: list[list[int]]
    lengths: list[int]
    max_new_tokens: list[int]
    cache: KVCache
    windows: Tensor
    last_logits: Tensor
    seconds: float

    @property
    def nbytes(self) -> int:
        """Bytes held, for whoever keeps prefixes."""
        return self.cache.nbytes + self.windows.nbytes + self.last_logits.nbytes


@torch.inference_mode()
def prefill(
    model: LanguageModel, prompts: list[list[int]], max_new_tokens: list[int], *, chunk: int | None = None
) -> Prefix:
    """Prefill a batch of prompts of any lengths, each at least one token.

    `chunk` is the number of tokens per forward, a multiple of the block size (None: one pass). Chunks give the same
    K, V as one pass. Raises `UserError` for an empty prompt, a bad chunk, or a prompt that leaves no room for the
    answer.
    """
    block_size, config = model.spec.block_size, model.body.config
    _check(model, prompts, max_new_tokens, chunk)
    clock = Clock(model.device)
    began = clock.mark()
    lengths = [len(prompt) // block_size * block_size for prompt in prompts]
    width, batch = max(lengths), len(prompts)
    room = max(-(-(len(p) % block_size + new) // block_size) * block_size for p, new in zip(prompts, max_new_tokens))
    dtype = model.body.lm_head.weight.dtype
    cache = KVCache(config, batch, width + room, model.device, dtype)
    windows = torch.zeros(
        (config.num_layers, batch, config.num_heads, KEPT_QUERIES, config.head_dim), device=model.device, dtype=dtype
    )
    last_hidden = torch.zeros((batch, config.hidden_size), device=model.device, dtype=dtype)
    # Shorter rows are padded on the right: block-causal attention never looks there.
    padded = [prompt[:length] + [0] * (width - length) for prompt, length in zip(prompts, lengths)]
    tokens = torch.tensor(padded, dtype=torch.long, device=model.device).view(batch, width)

    for start in range(0, width, chunk or max(width, 1)):
        end = min(start + (chunk or width), width)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor, start: int = start, end: int = end) -> Tensor:
            cache.write(layer, k, v, [start] * batch)
            for row, length in enumerate(lengths):
                first = max(start, length - KEPT_QUERIES)
                last = min(end, length)
                if first < last:
                    offset = KEPT_QUERIES - length
                    windows[layer, row, :, offset + first : offset + last] = q[row, :, first - start : last - start]
            return block_causal_attention(
                q, cache.keys[layer, :, :, :end], cache.values[layer, :, :, :end], start, block_size
            )

        positions = torch.arange(start, end, device=model.device).expand(batch, -1)
        hidden = model.body.hidden(tokens[:, start:end], positions, attend)
        for row, length in enumerate(lengths):
            if start < length <= end:
                last_hidden[row] = hidden[row, length - 1 - start]
    cache.rewind(lengths)
    last_logits = model.body.logits(last_hidden)
    return Prefix(prompts, lengths, max_new_tokens, cache, windows, last_logits, clock.seconds(began, clock.mark()))


def _check(model: LanguageModel, prompts: list[list[int]], max_new_tokens: list[int], chunk: int | None) -> None:
    block_size = model.spec.block_size
    if chunk is not None and (chunk < block_size or chunk % block_size):
        raise UserError(f"prefill_chunk={chunk} is not allowed: it must be a multiple of the block size {block_size}.")
    for prompt, new in zip(prompts, max_new_tokens):
        if not prompt:
            raise UserError("the prompt is empty: a prompt needs at least one token.")
        if new < 1:
            raise UserError(f"max_new_tokens={new} is out of range. Allowed: an integer >= 1.")
        if len(prompt) + new > model.max_positions:
            raise UserError(
                f"a prompt of {len(prompt)} tokens and {new} new tokens do not fit the model's "
                f"{model.max_positions} positions."
            )
