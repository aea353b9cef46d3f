"""The LLaDA2 body against an implementation of its own, written from the reports, one token and one head at a time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mage.errors import UserError
from mage.models.families.registry import body_config, hub_layout
from mage.models.layout import Layout, fill
from mage.models.transformer import Transformer
from tests.mage.naive import LLADA2_EXPERTS

HEADS, KV_HEADS, WIDTH, ROTARY, EPSILON, THETA, BLOCK = 4, 2, 16, 8, 1e-6, 600000.0, 8
CONFIG: dict[str, Any] = {
    "model_type": "llada2_moe",
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": WIDTH,
    "max_position_embeddings": 512,
    "rms_norm_eps": EPSILON,
    "rope_theta": THETA,
    "rope_scaling": None,
    "partial_rotary_factor": 0.5,
    "rotary_dim": ROTARY,
    "tie_word_embeddings": False,
    "use_qkv_bias": False,
    "use_bias": False,
    **LLADA2_EXPERTS,
    "router_dtype": "fp32",
}
CASES: dict[str, dict[str, Any]] = {
    "2.0": {},
    "2.2-block-routing": {"expert_capacity": 5, "block_size": BLOCK},
    "qkv-bias": {"use_qkv_bias": True, "use_bias": True},
    "no-shared-expert": {"num_shared_experts": 0},
}


def random_hub(layout: Layout, seed: int = 0) -> dict[str, Tensor]:
    """Random tensors in the hub's layout."""
    generator = torch.Generator().manual_seed(seed)
    hub = {}
    for name, tensor in layout.items():
        if tensor.parts:
            center, spread = (1.0, 0.2) if name.endswith(("norm.weight", "layernorm.weight")) else (0.0, 0.4)
            hub[name] = torch.randn(tensor.shape, generator=generator) * spread + center
    return hub


def loaded(config: dict[str, Any], hub: dict[str, Tensor]) -> Transformer:
    body = Transformer(body_config(config)).eval().requires_grad_(False)
    ours = body.state_dict()
    for name, tensor in hub_layout(config, body.config).items():
        for part in tensor.parts:
            fill(part, hub[name], ours[part.target])
    return body


def norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).mean() + EPSILON) * weight


def turned(head: Tensor, position: int) -> Tensor:
    out = head.clone()
    for pair in range(ROTARY // 2):
        angle = position * THETA ** (-2 * pair / ROTARY)
        a, b = head[pair], head[pair + ROTARY // 2]
        out[pair] = a * math.cos(angle) - b * math.sin(angle)
        out[pair + ROTARY // 2] = b * math.cos(angle) + a * math.sin(angle)
    return out


def attention(hub: dict[str, Tensor], name: str, rows: Tensor) -> Tensor:
    fused = rows @ hub[f"{name}.query_key_value.weight"].T + hub.get(f"{name}.query_key_value.bias", 0.0)
    heads = fused.view(len(rows), HEADS + 2 * KV_HEADS, WIDTH)  # query heads, then key heads, then value heads
    out = torch.zeros(len(rows), HEADS, WIDTH)
    for token in range(len(rows)):
        seen = (token // BLOCK + 1) * BLOCK
        for head in range(HEADS):
            kv = head // (HEADS // KV_HEADS)
            q = turned(norm(heads[token, head], hub[f"{name}.query_layernorm.weight"]), token)
            scores = torch.zeros(seen)
            for other in range(seen):
                k = turned(norm(heads[other, HEADS + kv], hub[f"{name}.key_layernorm.weight"]), other)
                scores[other] = q @ k / math.sqrt(WIDTH)
            out[token, head] = scores.softmax(0) @ heads[:seen, HEADS + KV_HEADS + kv]
    return out.flatten(1) @ hub[f"{name}.dense.weight"].T + hub.get(f"{name}.dense.bias", 0.0)


def feed_forward(hub: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    inner = F.silu(hub[f"{name}.gate_proj.weight"] @ x) * (hub[f"{name}.up_proj.weight"] @ x)
    return hub[f"{name}.down_proj.weight"] @ inner


def experts(hub: dict[str, Tensor], config: dict[str, Any], name: str, rows: Tensor) -> Tensor:
    count, groups = config["num_experts"], config["n_group"]
    out = torch.zeros_like(rows)
    scores = torch.sigmoid(rows @ hub[f"{name}.gate.weight"].T)
    preference = scores + hub[f"{name}.gate.expert_bias"]
    for token, x in enumerate(rows):
        wanted = preference[token].tolist()
        if "expert_capacity" in config:
            start = token // BLOCK * BLOCK
            ceiling = preference[start : start + BLOCK].max(dim=0).values.tolist()
            allowed = sorted(range(count), key=lambda e: (-ceiling[e], e))[: config["expert_capacity"]]
        else:
            size = count // groups
            strength = [sum(sorted(wanted[g * size : (g + 1) * size])[-2:]) for g in range(groups)]
            kept = sorted(range(groups), key=lambda g: -strength[g])[: config["topk_group"]]
            allowed = [e for e in range(count) if e // size in kept]
        chosen = sorted(allowed, key=lambda e: -wanted[e])[: config["num_experts_per_tok"]]
        total = sum(scores[token, e] for e in chosen)
        for e in chosen:
            out[token] += 2.5 * scores[token, e] / total * feed_forward(hub, f"{name}.experts.{e}", x)
        if config["num_shared_experts"]:
            out[token] += feed_forward(hub, f"{name}.shared_experts", x)
    return out


def brute_force(hub: dict[str, Tensor], config: dict[str, Any], tokens: list[int]) -> Tensor:
    rows = hub["model.word_embeddings.weight"][tokens]
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        normed = torch.stack([norm(row, hub[f"{name}.input_layernorm.weight"]) for row in rows])
        rows = rows + attention(hub, f"{name}.attention", normed)
        normed = torch.stack([norm(row, hub[f"{name}.post_attention_layernorm.weight"]) for row in rows])
        if layer < config["first_k_dense_replace"]:
            rows = rows + torch.stack([feed_forward(hub, f"{name}.mlp", row) for row in normed])
        else:
            rows = rows + experts(hub, config, f"{name}.mlp", normed)
    return torch.stack([norm(row, hub["model.norm.weight"]) for row in rows]) @ hub["lm_head.weight"].T


def block_causal(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    block = torch.arange(q.shape[2]) // BLOCK
    return F.scaled_dot_product_attention(q, k, v, attn_mask=block[:, None] >= block, enable_gqa=True)


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES.keys())
def test_logits_equal_brute_force(changes: dict[str, Any]) -> None:
    config = CONFIG | changes
    hub = random_hub(hub_layout(config, body_config(config)))
    tokens = torch.randint(0, 61, (2, 3 * BLOCK), generator=torch.Generator().manual_seed(1))
    body = loaded(config, hub)
    ours = body.logits(body.hidden(tokens, torch.arange(3 * BLOCK).expand(2, -1), block_causal))
    for row in range(2):
        theirs = brute_force(hub, config, tokens[row].tolist())
        assert (ours[row] - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_block_routing_is_another_model_than_token_routing() -> None:
    config = CONFIG | CASES["2.2-block-routing"]
    hub = random_hub(hub_layout(config, body_config(config)))
    tokens, positions = torch.arange(16)[None], torch.arange(16)[None]
    by_block, by_token = loaded(config, hub), loaded(CONFIG, hub)
    assert not torch.allclose(
        by_block.hidden(tokens, positions, block_causal), by_token.hidden(tokens, positions, block_causal), atol=1e-2
    )


def test_block_routing_needs_whole_blocks() -> None:
    body = Transformer(body_config(CONFIG | CASES["2.2-block-routing"]))
    with pytest.raises(UserError, match=r"block_size=8.*whole blocks, got 12 positions"):
        body.hidden(torch.zeros(1, 12, dtype=torch.long), torch.arange(12)[None], block_causal)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"partial_rotary_factor": None}, "partial_rotary_factor is missing"),
        ({"num_experts": None}, "num_experts is missing"),
        ({"score_function": "softmax"}, "score_function=softmax is not supported. Allowed: sigmoid"),
        ({"norm_topk_prob": False}, "norm_topk_prob=false is not supported. Allowed: true"),
        ({"expert_capacity": 5}, "block_size is missing"),
        (
            {"expert_capacity": 2, "block_size": 8},
            "expert_capacity=2 is out of range. Allowed: num_experts_per_tok=3 to",
        ),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type=linear is not supported"),
    ],
)
def test_config_that_is_not_served_is_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        body_config(CONFIG | changes)
