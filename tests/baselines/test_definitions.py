"""Each method's indices against a naive reading of its definition, on random tensors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from baselines.oracle import Oracle
from baselines.quest import Quest
from baselines.random import Random
from baselines.snapkv import SnapKV
from baselines.streaming_llm import StreamingLLM
from mage.mage import Mage
from mage.method import Forward, View
from mage.selection import top_k, top_pages

HEAD_DIM = 8
# batch, KV heads, query group, rows: the paper's own setting (one query, one head), and a block that shares one set
SHAPES = [(1, 1, 1, 1), (2, 2, 3, 4)]


def make_view(shape: tuple[int, int, int, int], prefix: int = 40, budget: int = 12, **changes: object) -> View:
    batch, kv_heads, group, rows = shape
    torch.manual_seed(1)
    fields: dict[str, object] = {
        "forward": Forward(1, 1),
        "layer": 0,
        "scale": HEAD_DIM**-0.5,
        "block_size": 4,
        "queries": torch.randn(batch, kv_heads * group, rows, HEAD_DIM),
        "keys": torch.randn(batch, kv_heads, prefix, HEAD_DIM) * 2,
        "block_keys": torch.randn(batch, kv_heads, rows, HEAD_DIM),
        "mask": None,
        "prompt_rows": torch.zeros(batch, rows, dtype=torch.bool),
        "budgets": [budget] * batch,
        "lengths": [prefix] * batch,
        "prefilled": [prefix] * batch,
        "question_starts": [prefix] * batch,
        "window": torch.randn(batch, kv_heads * group, 16, HEAD_DIM),
        "example_ids": [str(row) for row in range(batch)],
        "seed": 0,
    }
    return View(**(fields | changes))  # type: ignore[arg-type]


def naive_mass(view: View, batch: int, head: int) -> Tensor:
    """Mean over the rows of one KV head of softmax(q . [prefix, block]) on the prefix, one row at a time."""
    group = view.queries.shape[1] // view.num_kv_heads
    keys = torch.cat((view.keys[batch, head], view.block_keys[batch, head]))
    rows = [
        torch.softmax(keys @ view.queries[batch, head * group + g, r] * view.scale, 0)[: view.keys.shape[2]]
        for g in range(group)
        for r in range(view.queries.shape[2])
    ]
    return torch.stack(rows).mean(0)


def chosen(method: SnapKV, view: View) -> set[int]:
    """What a method picks for the first head when it sees a view for the first time."""
    view.state.clear()
    return set(method.select(view).indices[0, 0].tolist())


def best(scores: Tensor, count: int) -> set[int]:
    return set(scores.sort(descending=True).indices[:count].tolist())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("method", [Mage(), Oracle()], ids=["mage", "oracle"])
def test_top_k_of_the_mean_mass(shape: tuple[int, int, int, int], method: Mage | Oracle) -> None:
    view = make_view(shape)
    indices = method.select(view).indices
    for b in range(shape[0]):
        for h in range(shape[1]):
            assert set(indices[b, h].tolist()) == best(naive_mass(view, b, h), 12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mage_pages_have_the_highest_summed_mass(shape: tuple[int, int, int, int]) -> None:
    view = make_view(shape)
    indices = Mage(page_size=4).select(view).indices
    for b in range(shape[0]):
        for h in range(shape[1]):
            pages = best(naive_mass(view, b, h).view(-1, 4).sum(1), 3)
            assert set(indices[b, h].tolist()) == {4 * page + i for page in pages for i in range(4)}


@pytest.mark.parametrize("reduction", ["sum", "max"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_quest_reads_the_pages_with_the_highest_bounds(shape: tuple[int, int, int, int], reduction: str) -> None:
    view = make_view(shape)
    group = shape[2]
    shared = Quest(page_size=4, reduction=reduction).select(view)
    apart = Quest(page_size=4, reduction=reduction, share="query_head").select(view)
    assert shared.metadata_tokens == [10.0] * shape[0]  # one token equivalent a page
    for b in range(shape[0]):
        for h in range(shape[1]):
            pages = view.keys[b, h].view(10, 4, HEAD_DIM)
            low, high = pages.amin(1), pages.amax(1)
            queries = view.queries[b, h * group : (h + 1) * group]  # [group, rows, d]
            bound = torch.maximum(queries[:, :, None] * low, queries[:, :, None] * high).sum(-1)
            reduce = torch.amax if reduction == "max" else torch.sum

            def tokens(scores: Tensor) -> set[int]:
                return {4 * page + i for page in best(scores, 3) for i in range(4)}

            assert set(shared.indices[b, h].tolist()) == tokens(reduce(bound, (0, 1)))
            for g in range(group):
                assert set(apart.indices[b, h * group + g].tolist()) == tokens(reduce(bound[g], 0))


def test_quest_bounds_of_a_longer_prefix_equal_fresh_ones() -> None:
    view = make_view((1, 2, 2, 4), prefix=30)
    method = Quest(page_size=4)
    grown = make_view((1, 2, 2, 4), prefix=38)
    view.keys = grown.keys[:, :, :30]
    method.select(view)
    fresh = method.select(grown).indices
    grown.state = view.state
    assert torch.equal(method.select(grown).indices, fresh)


@pytest.mark.parametrize("share", ["kv_head", "query_head"])
def test_snapkv_keeps_the_window_and_the_best_pooled_entries(share: str) -> None:
    view = make_view((1, 2, 3, 4))
    indices = SnapKV(window=4, kernel=3, share=share).select(view).indices
    for h in range(2):
        scores = []
        for g in range(3):
            rows = []
            for i, position in enumerate(range(36, 40)):
                seen = (position // 4 + 1) * 4  # block-causal: up to the end of the row's own block
                logits = view.keys[0, h, :seen] @ view.window[0, 3 * h + g, 12 + i] * view.scale
                rows.append(torch.nn.functional.pad(torch.softmax(logits, 0), (0, 40 - seen)))
            scores.append(torch.stack(rows).mean(0))

        def kept(score: Tensor) -> set[int]:
            padded = torch.nn.functional.pad(score[:36], (1, 1))
            pooled = torch.stack([padded[i : i + 3].sum() / 3 for i in range(36)])
            return best(pooled, 8) | set(range(36, 40))

        if share == "kv_head":
            assert set(indices[0, h].tolist()) == kept(torch.stack(scores).mean(0))
        else:
            for g in range(3):
                assert set(indices[0, 3 * h + g].tolist()) == kept(scores[g])


def test_snapkv_that_may_not_see_the_question_keeps_what_follows() -> None:
    view = make_view((1, 1, 1, 4), question_starts=[32])
    blind = chosen(SnapKV(window=4), view)
    assert set(range(28, 40)) <= blind and len(blind) == 12 + 8
    changed = make_view((1, 1, 1, 4), question_starts=[32])
    changed.window[:, :, 8:] = 9.0  # the queries of positions 32..39
    assert chosen(SnapKV(window=4), changed) == blind
    aware = chosen(SnapKV(window=4, query_aware=True), changed)
    assert aware != chosen(SnapKV(window=4, query_aware=True), view) and len(aware) == 12


def test_query_aware_snapkv_looks_through_the_prompt_tail() -> None:
    view = make_view((1, 1, 2, 4))
    view.prompt_rows[0, :2] = True
    changed = make_view((1, 1, 2, 4))
    changed.prompt_rows[0, :2] = True
    changed.queries[:, :, :2] *= -3.0
    assert chosen(SnapKV(window=4, query_aware=True), changed) != chosen(SnapKV(window=4, query_aware=True), view)
    assert chosen(SnapKV(window=4), changed) == chosen(SnapKV(window=4), view)


@pytest.mark.parametrize(("budget", "expected"), [(6, {0, 1, 2, 3, 38, 39}), (4, {0, 1, 2, 39}), (1, {39})])
def test_streaming_llm_keeps_sinks_and_recent(budget: int, expected: set[int]) -> None:
    indices = StreamingLLM().select(make_view((1, 2, 1, 1), budget=budget)).indices
    assert set(indices[0, 0].tolist()) == set(indices[0, 1].tolist()) == expected


def test_random_depends_on_example_layer_block_and_seed_alone() -> None:
    base = Random().select(make_view((2, 2, 1, 1))).indices
    assert torch.equal(base, Random().select(make_view((2, 2, 3, 4))).indices)
    swapped = Random().select(make_view((2, 2, 1, 1), example_ids=["1", "0"])).indices
    assert torch.equal(base, swapped.flip(0))
    for changes in ({"seed": 1}, {"layer": 1}, {"forward": Forward(2, 1)}):
        assert not torch.equal(base, Random().select(make_view((2, 2, 1, 1), **changes)).indices)


def test_random_is_uniform() -> None:
    counts = torch.zeros(40)
    for seed in range(300):
        counts[Random().select(make_view((1, 1, 1, 1), seed=seed)).indices[0, 0]] += 1
    assert counts.sum() == 300 * 12
    assert ((counts - 90).abs() < 5 * (300 * 0.3 * 0.7) ** 0.5).all()


def test_top_k_of_ragged_rows() -> None:
    scores = torch.tensor([[[5.0, 1, 4, 2]], [[1.0, 9, 3, 8]]])
    assert top_k(scores, [2, 3], [4, 2]).tolist() == [[[0, 2]], [[0, 1]]]
    assert top_k(scores, [1, 3], [4, 4]).tolist() == [[[0, -1, -1]], [[1, 2, 3]]]


def test_top_pages_never_exceeds_the_budget_or_the_row() -> None:
    scores = torch.tensor([[[1.0, 2.0, 3.0]]])
    assert top_pages(scores, 4, [9], [10]).tolist() == [[[4, 5, 6, 7, 8, 9, -1, -1]]]
    assert top_pages(scores, 4, [3], [10]).tolist() == [[[]]]
    assert top_pages(scores, 4, [10], [10]).tolist() == [[[*range(10), -1, -1]]]
