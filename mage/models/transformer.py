"""One decoder transformer for all families; they differ in what `BodyConfig` declares.

Module names are those of the Llama and Qwen checkpoints; `mage.models.layout` maps the others onto them. Attention
itself is not here: each layer hands its rotated queries, keys and values to the `attend` function of the caller.
Prefill, denoising, commit and training differ in that function alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mage.models.config import BodyConfig, Experts
from mage.models.experts import ExpertBank, Router
from mage.models.rope import PositionTables, position_tables

# (layer, queries [batch, heads, rows, head_dim], keys, values [batch, kv_heads, rows, head_dim]) -> like the queries
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


class Projections(nn.Module):
    """The linear maps around attention, with the per-head norms where the family has them."""

    def __init__(self, config: BodyConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        query_width, kv_width = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, query_width, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.hidden_size, kv_width, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.hidden_size, kv_width, bias=config.qkv_bias)
        self.o_proj = nn.Linear(query_width, config.hidden_size, bias=config.output_bias)
        if config.qk_norm:
            self.q_norm = nn.RMSNorm(config.head_dim, eps=config.rms_norm_eps)
            self.k_norm = nn.RMSNorm(config.head_dim, eps=config.rms_norm_eps)
        self.qk_norm = config.qk_norm

    def heads(self, x: Tensor, tables: PositionTables) -> tuple[Tensor, Tensor, Tensor]:
        """Project `x` `[batch, rows, hidden]` to rotated queries, keys and plain values, `[batch, heads, rows, d]`."""
        shape = (*x.shape[:2], -1, self.head_dim)
        q, k, v = (proj(x).view(shape) for proj in (self.q_proj, self.k_proj, self.v_proj))
        if self.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        return tables.queries(q.transpose(1, 2)), tables.keys(k.transpose(1, 2)), v.transpose(1, 2)


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, hidden_size: int, intermediate_size: int, bias: bool) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=bias)
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=bias)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class MixtureOfExperts(nn.Module):
    """Routed experts, and the shared one that every token takes."""

    def __init__(self, config: Experts, hidden_size: int) -> None:
        super().__init__()
        self.router = Router(config, hidden_size)
        self.experts = ExpertBank(config, hidden_size)
        self.shared_experts = FeedForward(hidden_size, config.shared_size, False) if config.shared_size else None

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.router(x)
        out = self.experts(x.flatten(0, 1), weights.flatten(0, 1), chosen.flatten(0, 1)).view_as(x)
        return out if self.shared_experts is None else out + self.shared_experts(x)


class Layer(nn.Module):
    """One pre-norm layer: attention through the seam, then the feed-forward."""

    def __init__(self, config: BodyConfig, index: int) -> None:
        super().__init__()
        self.self_attn = Projections(config)
        self.mlp: FeedForward | MixtureOfExperts
        if config.experts is not None and index not in config.experts.dense_layers:
            self.mlp = MixtureOfExperts(config.experts, config.hidden_size)
        else:
            self.mlp = FeedForward(config.hidden_size, config.intermediate_size, config.mlp_bias)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(self, x: Tensor, index: int, tables: PositionTables, attend: Attend) -> Tensor:
        q, k, v = self.self_attn.heads(self.input_layernorm(x), tables)
        out = attend(index, q, k, v).transpose(1, 2).flatten(2)  # [batch, rows, heads * head_dim]
        x = x + self.self_attn.o_proj(out)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Embedding, layers and final norm: what the checkpoints call `model`."""

    def __init__(self, config: BodyConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding.from_pretrained(_normal(config.vocab_size, config.hidden_size), freeze=False)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.num_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)


def _normal(*shape: int) -> Tensor:
    """Random weights as nn.Embedding starts with. None on `meta`: drawing there imports torch's compiler, a second."""
    weight = torch.empty(shape)
    return weight if weight.is_meta else weight.normal_()


class Transformer(nn.Module):
    """The body with its output matrix."""

    def __init__(self, config: BodyConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tied_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def hidden(self, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """Return final hidden states `[batch, rows, hidden]` of `tokens` at `positions`, both `[batch, rows]`.

        Raises `UserError` when a body that routes by block is given other than whole blocks. Their edges are to lie
        at multiples of the block size; that is the caller's part.
        """
        x = self.model.embed_tokens(tokens)
        tables = position_tables(positions, self.config, x.dtype)
        for index, layer in enumerate(self.model.layers):
            x = layer(x, index, tables, attend)
        return self.model.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits `[..., vocab]` of hidden states `[..., hidden]`."""
        return self.lm_head(hidden).float()
