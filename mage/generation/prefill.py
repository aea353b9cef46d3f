"""Prefill: one pass over a prompt, block-causal or causal, done once and decoded from many times."""

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

    `lengths[row]`: prefilled tokens. A block-causal prefill stops at `floor(prompt / block size) * block size`, and the
    rest of the prompt, its tail, stands in the first generated block; a causal one takes the whole prompt. `windows`:
    the last queries, see `Request`. `last_logits` `[batch, vocab]`: of the last prefilled position, what an anchored
    model starts from; meaningless where nothing was prefilled. `seconds`: what the prefill took.
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

    `chunk` is the number of tokens per forward, a multiple of the block size unless the prefill is causal (None: one
    pass). Chunks give the same K, V as one pass. Raises `UserError` for an empty prompt, a bad chunk, or a prompt that
    leaves no room for the blocks of the answer.
    """
    unit, config = model.spec.prefill_unit, model.body.config
    _check(model, prompts, max_new_tokens, chunk)
    clock = Clock(model.device)
    began = clock.mark()
    lengths = [len(prompt) // unit * unit for prompt in prompts]
    width, batch = max(lengths), len(prompts)
    room = max(_room(model, len(p), new) for p, new in zip(prompts, max_new_tokens))
    dtype = model.body.lm_head.weight.dtype
    cache = KVCache(config, batch, width + room, model.device, dtype)
    windows = torch.zeros(
        (config.num_layers, batch, config.num_heads, KEPT_QUERIES, config.head_dim), device=model.device, dtype=dtype
    )
    last_hidden = torch.zeros((batch, config.hidden_size), device=model.device, dtype=dtype)
    # Shorter rows are padded on the right, where no earlier position looks.
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
                q, cache.keys[layer, :, :, :end], cache.values[layer, :, :, :end], start, unit
            )

        positions = torch.arange(start, end, device=model.device).expand(batch, -1)
        hidden = model.body.hidden(tokens[:, start:end], positions, attend)
        for row, length in enumerate(lengths):
            if start < length <= end:
                last_hidden[row] = hidden[row, length - 1 - start]
    cache.rewind(lengths)
    last_logits = model.body.logits(last_hidden)
    if not bool(last_logits.isfinite().all()):
        name = str(dtype).removeprefix("torch.")
        raise UserError(f"the model's logits are not finite in {name}: damaged weights, or too large for model.dtype.")
    return Prefix(prompts, lengths, max_new_tokens, cache, windows, last_logits, clock.seconds(began, clock.mark()))


def _room(model: LanguageModel, prompt: int, new: int) -> int:
    """Return how many entries the blocks of an answer of `new` tokens take behind the prefill of `prompt` tokens."""
    size = model.spec.block_size
    return -(-(prompt % model.spec.prefill_unit + new) // size) * size


def _check(model: LanguageModel, prompts: list[list[int]], max_new_tokens: list[int], chunk: int | None) -> None:
    unit, size = model.spec.prefill_unit, model.spec.block_size
    if chunk is not None and (chunk < unit or chunk % unit):
        allowed = "an integer >= 1" if unit == 1 else f"a multiple of the block size {unit}"
        raise UserError(f"prefill_chunk={chunk} is not allowed: it must be {allowed}.")
    for prompt, new in zip(prompts, max_new_tokens):
        if not prompt:
            raise UserError("the prompt is empty: a prompt needs at least one token.")
        if new < 1:
            raise UserError(f"max_new_tokens={new} is out of range. Allowed: an integer >= 1.")
        if len(prompt) // unit * unit + _room(model, len(prompt), new) > model.max_positions:
            raise UserError(
                f"a prompt of {len(prompt)} tokens and {new} new tokens in blocks of {size} do not fit the model's "
                f"{model.max_positions} positions."
            )
