"""Autoregressive sampling of many answers behind one context, for training data."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from mage.attention.prefill import block_causal_attention
from mage.errors import UserError
from mage.models.transformer import Transformer


@torch.inference_mode()
def sample(
    body: Transformer,
    context: Sequence[int],
    prompts: Sequence[Sequence[int]],
    max_new: int,
    stop_ids: Collection[int],
    temperature: float | Sequence[float] = 0.0,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """Return what the body writes behind `context` and each of the prompts, token by token, at most `max_new` tokens.

    The prompts share the context's keys and values and do not see each other. An answer ends with the stop token it
    met, if any. temperature: of all rows or of each; 0 takes the likeliest token. top_p: tokens are drawn from the
    smallest set of the likeliest ones that has this probability (nucleus sampling, arXiv 1904.09751).
    generator: on the body's device. Raises `UserError` for an empty context or prompt, or one without room.
    """
    _check(body, context, prompts, max_new)
    rows = _Rows(body, context, prompts, max_new)
    device = body.lm_head.weight.device
    heat = torch.tensor(temperature, device=device, dtype=torch.float32).expand(len(prompts))
    answers: list[list[int]] = [[] for _ in prompts]
    going = list(range(len(prompts)))
    logits = rows.read_prompts()
    while True:
        tokens = _drawn(logits, heat[going], top_p, generator)
        for row, token in zip(going, tokens.tolist(), strict=True):
            answers[row].append(token)
        kept = [
            place for place, row in enumerate(going) if answers[row][-1] not in stop_ids and len(answers[row]) < max_new
        ]
        if not kept:
            return answers
        if len(kept) < len(going):
            rows.keep(kept)
            tokens, going = tokens[kept], [going[place] for place in kept]
        logits = rows.step(tokens)


class _Rows:
    """The rows being written. Prompts are aligned on the right, so that all rows write to the same column.

    `shared`: keys and values of the context, `[layers, 2, kv_heads, context, d]`. `own`: those of the rows, `[layers,
    2, rows, kv_heads, columns, d]`. `visible` `[rows, columns]`: columns that are no padding.
    """

    def __init__(self, body: Transformer, context: Sequence[int], prompts: Sequence[Sequence[int]], max_new: int):
        self._body = body
        config, weight = body.config, body.lm_head.weight
        width = max(map(len, prompts))
        layers, heads, size = config.num_layers, config.num_kv_heads, config.head_dim
        columns = width + max_new
        self._shared = weight.new_empty((layers, 2, heads, len(context), size))
        self._own = weight.new_zeros((layers, 2, len(prompts), heads, columns, size))
        padding = torch.tensor([width - len(prompt) for prompt in prompts], device=weight.device)
        self._visible = torch.arange(columns, device=weight.device) >= padding[:, None]
        self._first = len(context) - padding  # the position of column 0
        self._written = 0
        self._prompts = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=weight.device)
        self._read_context(torch.tensor(context, device=weight.device)[None])

    def read_prompts(self) -> Tensor:
        """Logits `[rows, vocab]` behind the prompts."""
        return self._forward(self._prompts)

    def step(self, tokens: Tensor) -> Tensor:
        """Logits `[rows, vocab]` behind one more token of each row, `[rows]`."""
        return self._forward(tokens[:, None])

    def keep(self, rows: list[int]) -> None:
        """Go on with some of the rows."""
        self._own, self._visible, self._first = self._own[:, :, rows], self._visible[rows], self._first[rows]

    def _read_context(self, tokens: Tensor) -> None:
        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            self._shared[layer, 0], self._shared[layer, 1] = k[0], v[0]
            return block_causal_attention(q, k, v, 0, 1)

        self._body.hidden(tokens, torch.arange(tokens.shape[1], device=tokens.device)[None], attend)

    def _forward(self, tokens: Tensor) -> Tensor:
        start, stop = self._written, self._written + tokens.shape[1]
        columns = torch.arange(start, stop, device=tokens.device)
        # Padding is given position 0; nobody sees it.
        positions = (self._first[:, None] + columns).clamp(min=0)
        causal = columns[:, None] >= torch.arange(stop, device=tokens.device)
        # A row of padding sees itself, so that its softmax is finite.
        own = columns[:, None] == torch.arange(stop, device=tokens.device)
        mask = (causal & self._visible[:, None, :stop]) | own

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            self._own[layer, 0, :, :, start:stop] = k
            self._own[layer, 1, :, :, start:stop] = v
            keys, values = self._own[layer, :, :, :, :stop]
            return _attention(q, keys, values, self._shared[layer, 0], self._shared[layer, 1], mask)

        hidden = self._body.hidden(tokens, positions, attend)
        self._written = stop
        return self._body.logits(hidden[:, -1])


def _attention(
    q: Tensor, keys: Tensor, values: Tensor, shared_keys: Tensor, shared_values: Tensor, mask: Tensor
) -> Tensor:
    """Attend from `q` `[rows, heads, new, d]` to shared keys `[kv_heads, context, d]` and to each row's own.

    Own keys and values are `[rows, kv_heads, columns, d]`, `mask` `[rows, new, columns]` says which of them are seen.
    """
    rows, heads, new, size = q.shape
    kv_heads, context = shared_keys.shape[:2]
    grouped = (q * size**-0.5).reshape(rows, kv_heads, -1, size)  # [rows, kv_heads, group * new, d]
    # All rows ask the shared keys in one product: they are read once a step, not once a row.
    together = grouped.transpose(0, 1).reshape(kv_heads, -1, size)
    to_shared = (together @ shared_keys.mT).view(kv_heads, rows, -1, context).transpose(0, 1)
    to_own = grouped @ keys.mT
    hidden = ~mask.repeat(1, heads // kv_heads, 1)[:, None]
    to_own = to_own.masked_fill(hidden, float("-inf"))
    weights = torch.cat((to_shared, to_own), -1).float().softmax(-1).to(q.dtype)
    of_shared = weights[..., :context].transpose(0, 1).reshape(kv_heads, -1, context) @ shared_values
    out = of_shared.view(kv_heads, rows, -1, size).transpose(0, 1) + weights[..., context:] @ values
    return out.reshape(rows, heads, new, size)


def _drawn(logits: Tensor, temperature: Tensor, top_p: float, generator: torch.Generator | None) -> Tensor:
    """One token a row, `[rows]`, of logits `[rows, vocab]`."""
    likeliest = logits.argmax(-1)
    if not bool((temperature > 0).any()):
        return likeliest
    probabilities = (logits / temperature.clamp(min=1e-6)[:, None]).softmax(-1)
    ordered, ids = probabilities.sort(descending=True)
    before = ordered.cumsum(-1) - ordered
    ordered[before >= top_p] = 0.0
    # Drawn for all rows, those at temperature 0 too, so that a row's tokens do not hang on the others' temperatures.
    drawn = ids.gather(1, torch.multinomial(ordered, 1, generator=generator))[:, 0]
    return torch.where(temperature > 0, drawn, likeliest)


def _check(body: Transformer, context: Sequence[int], prompts: Sequence[Sequence[int]], max_new: int) -> None:
    if not context or not prompts or not all(prompts):
        raise UserError("sampling needs a context and prompts of at least one token each.")
    if max_new < 1:
        raise UserError(f"max_new={max_new} is out of range. Allowed: an integer >= 1.")
    needed, room = len(context) + max(map(len, prompts)) + max_new, body.config.max_positions
    if needed > room:
        raise UserError(f"{needed} tokens of context, prompt and answer do not fit the model's {room} positions.")
