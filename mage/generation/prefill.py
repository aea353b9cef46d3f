"""Prefill: one pass over a prompt, block-causal or causal, done once and decoded from many times."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mage.attention.operations import Operations
from mage.attention.torch_operations import TorchOperations
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
    model starts from; meaningless where nothing was prefilled. `seconds`: what the prefill took. `shared`: how many
    tokens were continued from; the seconds of these are those of the prefix that they came from.
    Decoding writes behind the prefix only.
    """

    prompts: list[list[int]]
    lengths: list[int]
    max_new_tokens: list[int]
    cache: KVCache
    windows: Tensor
    last_logits: Tensor
    seconds: float
    shared: int = 0


@torch.inference_mode()
def prefill(
    model: LanguageModel,
    prompts: list[list[int]],
    max_new_tokens: list[int],
    *,
    chunk: int | None = None,
    common: Prefix | None = None,
    operations: Operations | None = None,
) -> Prefix:
    """Prefill a batch of prompts of any lengths, each at least one token.

    `chunk` is the number of tokens per forward, a multiple of the block size unless the prefill is causal (None: one
    pass). Chunks give the same K, V as one pass. `common`: see `prefill_common`. `operations`: what computes attention
    (None: plain torch). Raises `UserError` for an empty
    prompt, a bad chunk, or a prompt that leaves no room for the blocks of the answer, ValueError for a common part that
    one prompt does not begin with.
    """
    _check(model, prompts, max_new_tokens, chunk)
    if common is not None and (len(prompts) > 1 or prompts[0][: common.lengths[0]] != common.prompts[0]):
        raise ValueError("a common part is continued to one prompt that begins with it")
    room = max(_room(model, len(p), new) for p, new in zip(prompts, max_new_tokens))
    return _filled(model, prompts, max_new_tokens, room, chunk, common, operations)


@torch.inference_mode()
def prefill_common(
    model: LanguageModel, tokens: list[int], *, chunk: int | None = None, operations: Operations | None = None
) -> Prefix:
    """Prefill what several prompts begin with, to be continued by `prefill`: without room for an answer.

    K and V of causal tokens do not depend on what follows, nor on the block size. One forward over a prompt and two
    over its parts differ in the last bits: that a result may not depend on what ran before, whoever continues prompts
    always splits them at the same token. Raises `UserError`, and ValueError where the prefill is not causal.
    """
    if not model.spec.causal:
        raise ValueError("a common part needs a causal prefill")
    _check_chunk(model, chunk)
    if not tokens:
        raise UserError("the prompt is empty: a prompt needs at least one token.")
    if len(tokens) > model.max_positions:
        raise UserError(f"{len(tokens)} tokens do not fit the model's {model.max_positions} positions.")
    return _filled(model, [tokens], [0], 0, chunk, None, operations)


def _filled(
    model: LanguageModel,
    prompts: list[list[int]],
    max_new_tokens: list[int],
    room: int,
    chunk: int | None,
    common: Prefix | None,
    operations: Operations | None,
) -> Prefix:
    """Prefill, with `room` entries behind the longest prompt. A common part is copied."""
    unit, config = model.spec.prefill_unit, model.body.config
    operations = operations or TorchOperations()
    clock = Clock(model.device)
    began = clock.mark()
    lengths = [len(prompt) // unit * unit for prompt in prompts]
    width, batch = max(lengths), len(prompts)
    dtype = model.body.lm_head.weight.dtype
    cache = KVCache(config, batch, width + room, model.device, dtype)
    windows = torch.zeros(
        (config.num_layers, batch, config.num_heads, KEPT_QUERIES, config.head_dim), device=model.device, dtype=dtype
    )
    last_hidden = torch.zeros((batch, config.hidden_size), device=model.device, dtype=dtype)
    done = 0
    if common is not None:
        done = common.lengths[0]
        cache.keys[:, :, :, :done] = common.cache.keys[:, :, :, :done]
        cache.values[:, :, :, :done] = common.cache.values[:, :, :, :done]
        kept = max(0, KEPT_QUERIES - (width - done))  # queries of the common part that stay among the last
        windows[:, :, :, :kept] = common.windows[:, :, :, KEPT_QUERIES - kept :]
    # Shorter rows are padded on the right, where no earlier position looks.
    padded = [prompt[:length] + [0] * (width - length) for prompt, length in zip(prompts, lengths)]
    tokens = torch.tensor(padded, dtype=torch.long, device=model.device).view(batch, width)

    for start in range(done, width, chunk or max(width, 1)):
        end = min(start + (chunk or width), width)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor, start: int = start, end: int = end) -> Tensor:
            cache.write(layer, k, v, start)
            for row, length in enumerate(lengths):
                first = max(start, length - KEPT_QUERIES)
                last = min(end, length)
                if first < last:
                    offset = KEPT_QUERIES - length
                    windows[layer, row, :, offset + first : offset + last] = q[row, :, first - start : last - start]
            keys, values = (cached[:, :, :end] for cached in cache.entries(layer))
            return operations.prefill(q, keys, values, start, unit)

        positions = torch.arange(start, end, device=model.device).expand(batch, -1)
        hidden = model.body.hidden(tokens[:, start:end], positions, attend)
        for row, length in enumerate(lengths):
            if start < length <= end:
                last_hidden[row] = hidden[row, length - 1 - start]
    cache.rewind(lengths)
    whole = common if done == width else None
    # A clone: decoding writes into the logits of a prefix.
    last_logits = model.body.logits(last_hidden) if whole is None else whole.last_logits.clone()
    if not bool(last_logits.isfinite().all()):
        name = str(dtype).removeprefix("torch.")
        raise UserError(f"the model's logits are not finite in {name}: damaged weights, or too large for model.dtype.")
    seconds = clock.seconds(began, clock.mark())
    return Prefix(prompts, lengths, max_new_tokens, cache, windows, last_logits, seconds, done)


def _room(model: LanguageModel, prompt: int, new: int) -> int:
    """Return how many entries the blocks of an answer of `new` tokens take behind the prefill of `prompt` tokens."""
    size = model.spec.block_size
    return -(-(prompt % model.spec.prefill_unit + new) // size) * size


def _check(model: LanguageModel, prompts: list[list[int]], max_new_tokens: list[int], chunk: int | None) -> None:
    _check_chunk(model, chunk)
    unit, size = model.spec.prefill_unit, model.spec.block_size
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


def _check_chunk(model: LanguageModel, chunk: int | None) -> None:
    unit = model.spec.prefill_unit
    if chunk is not None and (chunk < unit or chunk % unit):
        allowed = "an integer >= 1" if unit == 1 else f"a multiple of the block size {unit}"
        raise UserError(f"prefill_chunk={chunk} is not allowed: it must be {allowed}.")
