"""Weights to start from that already look back, compare and copy, so that retrieval is learnt in minutes.

From plain random weights a small model stays for long at naming *some* value of the context. Four structures cure it:

* The first layers are positional: head h of layer l attends to the position `heads * l + h + 1` before. One constant
  embedding dimension drives their queries and keys; both are frozen, or the heads dissolve in training.
* Layer 0 writes a projection of what stood h + 1 positions before into dimensions of its own, for each head h.
* Keys of the later layers read one such source, queries another, through the same random map on the slow rotary pairs:
  "a key whose token before the last is my last token" is there from the start.
* Heads of the later layers write what they read: `o_proj` contains the transpose of `v_proj`, and the output matrix is
  the embedding matrix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mage.models.config import BodyConfig
from mage.models.transformer import FeedForward, Layer, Projections, Transformer

CONSTANT = 0
"""The embedding dimension that holds the same number for every token, through all positional layers."""

_CONSTANT_VALUE = 3.0
_POSITIONAL_PAIRS = 10  # rotary pairs, the fastest first: enough to tell neighbours apart
_FIRST_SLOW_PAIR = 14  # of 32: from here on, distance turns a pair so little that contents can be compared
_OWN = 0  # the source that is the token itself; source h is the token h positions before

# For each layer after the positional ones, in turn, and each of two key heads: what its keys read, and what its two
# queries read.
_PLAN = (
    ((1, (1, 4)), (2, (1, 4))),
    ((3, (1, 4)), (2, (1, _OWN))),
    ((2, (1, _OWN)), (3, (1, _OWN))),
    ((1, (1, 4)), (2, (1, _OWN))),
)


@dataclass(frozen=True)
class Structure:
    """`positional_layers`: layers that look back by fixed distances, their queries and keys frozen.

    `source_width`: dimensions in which layer 0 writes one source.
    """

    positional_layers: int = 2
    source_width: int = 24

    def frozen(self) -> set[str]:
        """Names of the parameters that training leaves as they are."""
        return {
            f"model.layers.{layer}.self_attn.{name}.weight"
            for layer in range(self.positional_layers)
            for name in ("q_proj", "k_proj", "q_norm", "k_norm")
        }

    @torch.no_grad()
    def initialise(self, body: Transformer, generator: torch.Generator) -> None:
        """Fill all weights of a Qwen3 body with 4 query and 2 key heads (untied embeddings, no biases), on the CPU.

        Raises ValueError for another number of heads, or when the sources do not fit the hidden size.
        """
        config = body.config
        if (config.num_heads, config.num_kv_heads) != (4, 2):
            raise ValueError("the structured initialisation is laid out for 4 query heads and 2 key heads")
        if config.num_heads * self.source_width >= config.hidden_size:
            raise ValueError(f"4 sources of {self.source_width} dimensions do not fit {config.hidden_size}")
        for weight in body.parameters():
            if weight.dim() == 2:
                weight.normal_(0, weight.shape[1] ** -0.5, generator=generator)
            else:
                weight.fill_(1.0)
        embedding = body.model.embed_tokens.weight
        embedding.normal_(0, 0.5, generator=generator)
        embedding[:, CONSTANT] = _CONSTANT_VALUE
        body.lm_head.weight.copy_(embedding * (2 * config.hidden_size**-0.5))
        body.lm_head.weight[:, CONSTANT] = 0
        readers = self._readers(config, generator)
        for index, layer in enumerate(body.model.layers):
            assert isinstance(layer, Layer) and isinstance(layer.mlp, FeedForward)
            layer.self_attn.o_proj.weight.mul_(0.3)
            layer.mlp.down_proj.weight.mul_(0.3)
            if index == 0:
                self._write_sources(layer.self_attn, config, readers)
            if index < self.positional_layers:
                _look_back(layer.self_attn, config, first_distance=index * config.num_heads + 1)
            else:
                plan = _PLAN[(index - self.positional_layers) % len(_PLAN)]
                _compare(layer.self_attn, config, readers, plan, generator)
                _copy(layer.self_attn, config)
            layer.self_attn.o_proj.weight[CONSTANT] = 0
            layer.mlp.down_proj.weight[CONSTANT] = 0

    @torch.no_grad()
    def mask_gradients(self, body: Transformer) -> None:
        """Keep the constant dimension constant: for every token, and behind every layer before a positional one."""
        _zero(body.model.embed_tokens.weight.grad, column=CONSTANT)
        for layer in body.model.layers[: max(0, self.positional_layers - 1)]:
            assert isinstance(layer, Layer) and isinstance(layer.mlp, FeedForward)
            _zero(layer.self_attn.o_proj.weight.grad, row=CONSTANT)
            _zero(layer.mlp.down_proj.weight.grad, row=CONSTANT)

    def _readers(self, config: BodyConfig, generator: torch.Generator) -> list[Tensor]:
        """For each source the map `[source_width, hidden]` that reads it; those of distances 1 to 4 are orthogonal."""
        width, hidden = self.source_width, config.hidden_size
        own = _orthonormal(hidden - 1, width, generator).T
        apart = _orthonormal(hidden - 1, 4 * width, generator).T
        readers = torch.zeros(5, width, hidden)
        readers[0, :, 1:] = own
        readers[1:, :, 1:] = apart.unflatten(0, (4, width))
        return list(readers)

    def _write_sources(self, attention: Projections, config: BodyConfig, readers: list[Tensor]) -> None:
        width = config.head_dim
        for head in range(config.num_kv_heads):
            attention.v_proj.weight[head * width : head * width + self.source_width] = readers[_OWN]
        for head in range(config.num_heads):
            attention.o_proj.weight[:, head * width : head * width + self.source_width] = readers[head + 1].T


def _look_back(attention: Projections, config: BodyConfig, first_distance: int) -> None:
    """Head h attends to the position `first_distance + h` before: its query is its key, rotated by that distance."""
    half = config.head_dim // 2
    pairs = range(min(_POSITIONAL_PAIRS, half))
    for projection in (attention.q_proj, attention.k_proj):
        projection.weight.zero_()
    for head in range(config.num_heads):
        for pair in pairs:
            angle = (first_distance + head) * config.rope_theta ** (-pair / half)
            row = head * config.head_dim + pair
            attention.q_proj.weight[row, CONSTANT] = math.cos(angle)
            attention.q_proj.weight[row + half, CONSTANT] = -math.sin(angle)
    for head in range(config.num_kv_heads):
        row = head * config.head_dim
        attention.k_proj.weight[row : row + len(pairs), CONSTANT] = 1.0
    _scale_norms(attention, 2.0)


def _compare(
    attention: Projections,
    config: BodyConfig,
    readers: list[Tensor],
    plan: tuple[tuple[int, tuple[int, int]], ...],
    generator: torch.Generator,
) -> None:
    """Keys and queries read their sources through one random map on the slow rotary pairs."""
    half, width = config.head_dim // 2, config.head_dim
    first = _FIRST_SLOW_PAIR * half // 32
    slow = [*range(first, half), *range(half + first, width)]
    for kv_head, (key_source, query_sources) in enumerate(plan):
        shared = _orthonormal(len(slow), readers[0].shape[0], generator)
        targets = [(attention.k_proj.weight, kv_head, key_source)]
        targets += [(attention.q_proj.weight, 2 * kv_head + i, source) for i, source in enumerate(query_sources)]
        for weight, head, source in targets:
            rows = weight[head * width : (head + 1) * width].mul_(0.3)
            rows[slow] += 1.5 * shared @ readers[source]
            rows[:, CONSTANT] = 0
    _scale_norms(attention, 1.5)


def _copy(attention: Projections, config: BodyConfig) -> None:
    values = attention.v_proj.weight.view(config.num_kv_heads, config.head_dim, -1)
    values = values.repeat_interleave(config.num_heads // config.num_kv_heads, dim=0).flatten(0, 1)
    attention.o_proj.weight.mul_(0.5).add_(values.T, alpha=0.7)


def _orthonormal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Random orthonormal columns."""
    return torch.linalg.qr(torch.randn(rows, columns, generator=generator)).Q


def _scale_norms(attention: Projections, scale: float) -> None:
    for norm in (attention.q_norm, attention.k_norm):
        norm.weight.fill_(scale)


def _zero(gradient: Tensor | None, *, row: int | slice = slice(None), column: int | slice = slice(None)) -> None:
    if gradient is not None:
        gradient[row, column] = 0
