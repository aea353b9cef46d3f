"""The training attentions against a masked full attention and against decoding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mage.attention.prefill import block_causal_attention
from mage.models.families.registry import body_config
from mage.models.transformer import Transformer
from mage.training.fused import fuse_norms
from mage.training.initialisation import Structure
from mage.training.shared_prefix import shared_prefix_hidden
from mage.training.two_stream import two_stream_hidden
from tests.conftest import CONFIG

BLOCK = 8


@pytest.fixture
def body() -> Transformer:
    config = body_config(CONFIG | {"vocab_size": 50, "hidden_size": 64})
    body = Transformer(config)
    Structure(source_width=8).initialise(body, torch.Generator().manual_seed(0))
    return body


def _masked(mask: Tensor):
    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        group = q.shape[1] // k.shape[1]
        keys, values = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        return F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)

    return attend


def _branch_mask(length: int, branches: int, blocks: int) -> Tensor:
    """Context block-causal; a branch row sees the context and the blocks of its own branch up to its own."""
    width = blocks * BLOCK
    rows = length + branches * width
    place = torch.arange(rows)
    owner = torch.where(place < length, -1, (place - length) // width)
    block = torch.where(place < length, place // BLOCK, length // BLOCK + (place - length) % width // BLOCK)
    visible = (owner[None] == -1) | (owner[:, None] == owner[None])
    return visible & (block[:, None] >= block[None])


@pytest.mark.parametrize(("length", "blocks"), [(24, 1), (320, 1), (24, 3)], ids=["short", "tiles", "earlier blocks"])
def test_shared_prefix_equals_masked_full_attention(body: Transformer, length: int, blocks: int) -> None:
    branches = 3
    generator = torch.Generator().manual_seed(1)
    contexts = torch.randint(50, (2, length), generator=generator)
    tokens = torch.randint(50, (2, branches, blocks * BLOCK), generator=generator)
    positions = torch.arange(length).repeat(2, 1)
    positions[1, length // 2 :] += 70  # a gap
    got = shared_prefix_hidden(body, contexts, positions, tokens, BLOCK)

    behind = positions[:, -1:] + 1 + torch.arange(blocks * BLOCK)
    places = torch.cat((positions, behind.repeat(1, branches)), dim=1)
    rows = torch.cat((contexts, tokens.flatten(1)), dim=1)
    full = body.hidden(rows, places, _masked(_branch_mask(length, branches, blocks)))
    wanted = full[:, length:].unflatten(1, (branches, -1))[:, :, -BLOCK:]
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


def test_shared_prefix_gradient_equals_masked_full_attention(body: Transformer) -> None:
    contexts, tokens = torch.arange(24).repeat(2, 1), torch.arange(32).view(1, 2, 16).repeat(2, 1, 1)
    positions = torch.arange(24).repeat(2, 1)
    shared_prefix_hidden(body, contexts, positions, tokens, BLOCK).square().sum().backward()
    got = {name: weight.grad.clone() for name, weight in body.named_parameters() if weight.grad is not None}
    body.zero_grad()
    places = torch.cat((positions, (24 + torch.arange(16)).repeat(2, 2)), dim=1)
    rows = torch.cat((contexts, tokens.flatten(1)), dim=1)
    full = body.hidden(rows, places, _masked(_branch_mask(24, 2, 2)))
    full[:, 24:].unflatten(1, (2, -1))[:, :, -BLOCK:].square().sum().backward()
    for name, weight in body.named_parameters():
        if name != "lm_head.weight":
            assert weight.grad is not None
            torch.testing.assert_close(got[name], weight.grad, atol=2e-4, rtol=2e-4, msg=name)


def test_two_stream_rows_equal_denoising_on_a_clean_prefix(body: Transformer) -> None:
    generator = torch.Generator().manual_seed(2)
    clean = torch.randint(2, 50, (2, 32), generator=generator)
    noisy = torch.where(torch.rand(2, 32, generator=generator) < 0.5, 1, clean)
    got = two_stream_hidden(body, noisy, clean, BLOCK)
    for start in range(0, 32, BLOCK):
        rows = torch.cat((clean[:, :start], noisy[:, start : start + BLOCK]), dim=1)
        positions = torch.arange(start + BLOCK).expand(2, -1)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return block_causal_attention(q, k, v, 0, BLOCK)

        decoded = body.hidden(rows, positions, attend)[:, start:]
        torch.testing.assert_close(got[:, start : start + BLOCK], decoded, atol=1e-5, rtol=1e-5)


def test_fused_norm_equals_torch() -> None:
    generator = torch.Generator().manual_seed(3)
    plain = torch.nn.Sequential(torch.nn.RMSNorm(12, eps=1e-6))
    plain[0].weight.data.normal_(1, 0.3, generator=generator)
    fused = torch.nn.Sequential(torch.nn.RMSNorm(12, eps=1e-6))
    fused.load_state_dict(plain.state_dict())
    fuse_norms(fused)
    x = torch.randn(5, 4, 12, generator=generator)
    gradients = []
    for module in (plain, fused):
        rows = x.clone().requires_grad_()
        out = module(rows)
        out.square().sum().backward()
        gradients.append((out.detach(), rows.grad, next(module.parameters()).grad))
    for got, wanted in zip(gradients[1], gradients[0]):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


def test_positional_heads_attend_to_their_distance(body: Transformer) -> None:
    """Head h of layer l gives most of its mass to the position `4 l + h + 1` before."""
    config, masses = body.config, {}

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q @ k.repeat_interleave(2, dim=1).transpose(-1, -2) * config.head_dim**-0.5
        masses[layer] = scores.softmax(-1)
        return masses[layer] @ v.repeat_interleave(2, dim=1)

    tokens = torch.randint(50, (1, 100), generator=torch.Generator().manual_seed(4))
    body.hidden(tokens, 300 + torch.arange(100)[None], attend)
    for layer in (0, 1):
        for head in range(4):
            distance = 4 * layer + head + 1
            assert masses[layer][0, head].argmax(-1)[20:].tolist() == [p - distance for p in range(20, 100)]
