"""Router and experts against plain Python, one token at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mage.errors import UserError
from mage.models.config import Experts
from mage.models.experts import ExpertBank, Router

HIDDEN = 12
SOFTMAX = Experts(count=10, per_token=3, intermediate_size=8)
GROUPS = Experts(
    count=16, per_token=4, intermediate_size=7, scoring="sigmoid", bias=True, groups=4, groups_kept=2, scale=2.5
)
BLOCKS = replace(GROUPS, capacity=6, block_size=5)
CASES = {"softmax": SOFTMAX, "unnormalised": replace(SOFTMAX, normalised=False), "groups": GROUPS, "blocks": BLOCKS}


def router_of(config: Experts, seed: int = 0) -> Router:
    torch.manual_seed(seed)
    router = Router(config, HIDDEN)
    with torch.no_grad():
        router.weight.normal_()
        if config.bias:
            router.bias.normal_(0.0, 0.3)
    return router.requires_grad_(False)


def best(values: dict[int, float], count: int) -> list[int]:
    """Keys of the largest values, the lower key first among equals."""
    return sorted(values, key=lambda key: (-values[key], key))[:count]


def brute_force(router: Router, rows: Tensor) -> list[dict[int, float]]:
    """For each token of one sequence the weight of each expert it takes, by the words of the reports."""
    config = router.config
    scores = []
    for row in rows.double():
        logits = [float(row @ weight) for weight in router.weight.double()]
        if config.scoring == "softmax":
            total = sum(torch.tensor(logits).double().exp().tolist())
            scores.append([float(torch.tensor(x).double().exp()) / total for x in logits])
        else:
            scores.append([1 / (1 + float(torch.tensor(-x).double().exp())) for x in logits])
    bias = router.bias.tolist() if config.bias else [0.0] * config.count
    preference = [[s + b for s, b in zip(row, bias)] for row in scores]
    taken = []
    for token, wanted in enumerate(preference):
        if config.block_size:
            first = token // config.block_size * config.block_size
            block = preference[first : first + config.block_size]
            allowed: Iterable[int] = best({e: max(p[e] for p in block) for e in range(config.count)}, config.capacity)
        else:
            size = config.count // config.groups
            strength = {
                g: sum(sorted(wanted[g * size : (g + 1) * size])[-2:]) if config.groups > 1 else 0.0
                for g in range(config.groups)
            }
            kept = best(strength, config.groups_kept)
            allowed = [e for e in range(config.count) if e // size in kept]
        chosen = best({e: wanted[e] for e in allowed}, config.per_token)
        total = sum(scores[token][e] for e in chosen) if config.normalised else 1.0
        taken.append({e: config.scale * scores[token][e] / total for e in chosen})
    return taken


@pytest.mark.parametrize("config", CASES.values(), ids=CASES.keys())
def test_router_equals_brute_force(config: Experts) -> None:
    router = router_of(config)
    x = torch.randn(3, 20, HIDDEN)
    weights, chosen = router(x)
    for row in range(3):
        for token, expected in enumerate(brute_force(router, x[row])):
            got = dict(zip(chosen[row, token].tolist(), weights[row, token].tolist()))
            assert got == pytest.approx(expected, rel=1e-5)


def test_groups_exclude_experts_that_alone_would_be_taken() -> None:
    x = torch.randn(1, 40, HIDDEN)
    limited = router_of(GROUPS)(x)[1].sort().values
    free = router_of(replace(GROUPS, groups=1, groups_kept=1))(x)[1].sort().values
    assert not torch.equal(limited, free)


def test_a_block_uses_at_most_its_capacity() -> None:
    chosen = router_of(BLOCKS)(torch.randn(2, 20, HIDDEN))[1]
    assert all(len(set(block.flatten().tolist())) <= 6 for row in chosen for block in row.split(5))
    unlimited = router_of(replace(BLOCKS, capacity=16))(torch.randn(2, 20, HIDDEN))[1]
    assert any(len(set(block.flatten().tolist())) > 6 for row in unlimited for block in row.split(5))


def test_block_admits_the_lower_id_of_equal_experts() -> None:
    router = router_of(replace(BLOCKS, count=8, per_token=1, capacity=1, bias=False))
    router.weight[3:] = router.weight[3]
    x = torch.randn(1, 50, HIDDEN)
    x = x * (x @ router.weight[3]).sign().unsqueeze(-1)  # expert 3 and its copies score above one half
    router.weight[:3] = 0
    assert router(x)[1].unique().tolist() == [3]


def test_block_routing_knows_its_own_block_alone() -> None:
    router = router_of(BLOCKS)
    x = torch.randn(1, 20, HIDDEN)
    weights, chosen = router(x)
    order = torch.tensor([2, 0, 3, 1])
    moved = x.unflatten(1, (4, 5))[:, order].flatten(1, 2)
    moved_weights, moved_chosen = router(moved)
    assert torch.equal(moved_chosen.unflatten(1, (4, 5)), chosen.unflatten(1, (4, 5))[:, order])
    assert torch.equal(moved_weights.unflatten(1, (4, 5)), weights.unflatten(1, (4, 5))[:, order])
    mixed = torch.randperm(20)  # tokens that change their block meet other pools
    assert not torch.equal(router(x[:, mixed])[1], chosen[:, mixed])


@pytest.mark.parametrize("rows", [1, 4, 6, 19])
def test_block_routing_refuses_part_of_a_block(rows: int) -> None:
    with pytest.raises(UserError, match=rf"block_size=5.*whole blocks, got {rows} positions"):
        router_of(BLOCKS)(torch.randn(1, rows, HIDDEN))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_router_computes_in_float32_whatever_the_body_is(dtype: torch.dtype) -> None:
    router = router_of(GROUPS)
    x = torch.randn(2, 30, HIDDEN).to(dtype)
    router.weight.data = router.weight.data.to(dtype)
    weights, chosen = router(x)
    exact = router_of(GROUPS)
    exact.weight.data = router.weight.data.float()
    assert weights.dtype == torch.float32
    assert torch.equal(chosen, exact(x.float())[1])
    assert torch.equal(weights, exact(x.float())[0])


def naive(bank: ExpertBank, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    rows = []
    for token in range(x.shape[0]):
        total = torch.zeros(HIDDEN)
        for weight, expert in zip(weights[token], chosen[token].tolist()):
            gate, up = bank.gate_proj[expert] @ x[token], bank.up_proj[expert] @ x[token]
            total = total + weight * (bank.down_proj[expert] @ (gate * torch.sigmoid(gate) * up))
        rows.append(total)
    return torch.stack(rows)


@pytest.mark.parametrize("path", ["looped", "grouped"])
@pytest.mark.parametrize("tokens", [1, 2, 65])
def test_experts_equal_a_loop_over_tokens_with_gradients(tokens: int, path: str) -> None:
    if path == "grouped" and not hasattr(F, "grouped_mm"):
        pytest.skip("torch before 2.10 has no grouped product")
    torch.manual_seed(tokens)
    bank, x = ExpertBank(SOFTMAX, HIDDEN), torch.randn(tokens, HIDDEN, requires_grad=True)
    weights = torch.rand(tokens, 3, requires_grad=True)
    chosen = torch.stack([torch.randperm(10)[:3] for _ in range(tokens)])
    leaves = [x, weights, *bank.parameters()]
    fast, slow = getattr(bank, path)(x, weights, chosen), naive(bank, x, weights, chosen)
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(torch.autograd.grad(fast.sum(), leaves), torch.autograd.grad(slow.sum(), leaves)):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_experts_in_half_precision_stay_near_float32_and_repeat_exactly(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    bank = ExpertBank(SOFTMAX, HIDDEN).to(dtype).requires_grad_(False)
    x, weights = torch.randn(33, HIDDEN).to(dtype), torch.rand(33, 3)
    chosen = torch.stack([torch.randperm(10)[:3] for _ in range(33)])
    got = bank(x, weights, chosen)
    expected = bank.float()(x.float(), weights, chosen)
    assert got.dtype == dtype
    assert (got.float() - expected).norm() <= 0.02 * expected.norm()
    assert torch.equal(bank.to(dtype)(x, weights, chosen), got)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_both_paths_agree_on_a_gpu_and_the_grouped_one_can_be_captured() -> None:
    torch.manual_seed(0)
    config = replace(SOFTMAX, intermediate_size=64)
    bank = ExpertBank(config, 128).to("cuda", torch.bfloat16).requires_grad_(False)
    x, weights = torch.randn(32, 128, device="cuda", dtype=torch.bfloat16), torch.rand(32, 3, device="cuda")
    chosen = torch.stack([torch.randperm(10, device="cuda")[:3] for _ in range(32)])
    looped, grouped = bank.looped(x, weights, chosen), bank(x, weights, chosen)
    assert (looped - grouped).float().norm() <= 0.01 * looped.float().norm()
    assert torch.equal(bank(x, weights, chosen), grouped)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = bank(x, weights, chosen)
    graph.replay()
    assert torch.equal(captured, grouped)
