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
from baselines.tidal_decode import TidalDecode
from mage.errors import UserError
from mage.mage import Mage
from mage.mage_v1 import MageV1
from mage.method import Method
from mage.selection import top_k, top_pages
from mage.view import KEPT_QUERIES, Forward, View
from tests.baselines.views import HEAD_DIM, SHAPES, best, make_view, naive_rows


def chosen(method: SnapKV, view: View) -> set[int]:
    """What a method picks for the first head when it sees a view for the first time."""
    view.state.clear()
    return set(method.select(view).indices[0, 0].tolist())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("denominator", ["prefix+block", "prefix"])
@pytest.mark.parametrize("reduction", ["mean", "max", "mean_query"])
@pytest.mark.parametrize("method", ["mage", "oracle"])
def test_top_k_of_the_reduced_mass(
    shape: tuple[int, int, int, int], denominator: str, reduction: str, method: str
) -> None:
    view = make_view(shape)
    view.block_keys *= 4.0  # the denominators must differ between rows for the choice to matter
    if method == "mage":
        selection = Mage(reduction=reduction, denominator=denominator).select(view)
    else:
        selection = Oracle(reduction=reduction).select(view)
        denominator = "prefix+block"
    assert selection.metadata_tokens == [20.0] * shape[0]  # every key once, no value: half of 40
    group = shape[2]
    for b in range(shape[0]):
        for h in range(shape[1]):
            rows = naive_rows(view, b, h, denominator)
            if reduction == "mean_query":
                scores = view.keys[b, h] @ view.queries[b, h * group : (h + 1) * group].flatten(0, 1).mean(0)
            else:
                scores = rows.mean(0) if reduction == "mean" else rows.amax(0)
            assert set(selection.indices[b, h].tolist()) == best(scores, 12)


def test_the_reductions_choose_differently() -> None:
    view = make_view((2, 2, 3, 4))
    view.block_keys *= 4.0
    options = [{}, {"reduction": "max"}, {"reduction": "mean_query"}, {"denominator": "prefix"}]
    chosen_sets = [Mage(**option).select(view).indices.tolist() for option in options]  # type: ignore[arg-type]
    assert all(a != b for i, a in enumerate(chosen_sets) for b in chosen_sets[:i])


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (Mage(), "Asssss"),
        (Mage(select_step=3), "eeAsss"),
        (Mage(refresh_every=2), "AsAsAs"),
        (Mage(select_step=2, refresh_every=3), "eAssAs"),
        (Oracle(), "BBBBBB"),
        (Quest(), "BBBBBB"),
        (Random(), "Bsssss"),
        (StreamingLLM(), "Bsssss"),
        (SnapKV(), "Bsssss"),
        (SnapKV(query_aware=True), "Asssss"),
        (MageV1(), "Asssss"),
        (TidalDecode(), "AAAAAA"),
        (TidalDecode(when="block"), "Asssss"),
    ],
    ids=str,
)
def test_when_a_method_selects(method: Method, expected: str) -> None:
    """e: exact; A: exact, then select; B: select, then sparse; s: sparse with the set of before."""
    letters = {(True, None): "e", (True, "after"): "A", (False, "before"): "B", (False, None): "s"}
    plans = [method.plan(Forward(1, step)) for step in range(1, 7)]
    assert "".join(letters[plan.exact, plan.select] for plan in plans) == expected
    assert method.plan(Forward(1, 7, commit=True)).exact == (method.commit == "dense")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mage_pages_have_the_highest_summed_mass(shape: tuple[int, int, int, int]) -> None:
    view = make_view(shape)
    indices = Mage(page_size=4).select(view).indices
    for b in range(shape[0]):
        for h in range(shape[1]):
            pages = best(naive_rows(view, b, h).mean(0).view(-1, 4).sum(1), 3)
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
                logits = (
                    view.keys[0, h, :seen] @ view.request.windows[0, 0, 3 * h + g, KEPT_QUERIES - 4 + i] * view.scale
                )
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
    changed.request.windows[:, :, :, -8:] = 9.0  # the queries of positions 32..39
    assert chosen(SnapKV(window=4), changed) == blind
    aware = chosen(SnapKV(window=4, query_aware=True), changed)
    assert aware != chosen(SnapKV(window=4, query_aware=True), view) and len(aware) == 12


def test_query_aware_snapkv_scores_with_the_prompt_tail() -> None:
    view = make_view((1, 1, 2, 4))
    view.prompt_rows[0, :3] = True
    keys = torch.cat((view.keys[0, 0], view.block_keys[0, 0, :3]))  # of the block, only the prompt's
    rows = [torch.softmax(keys @ view.queries[0, g, r] * view.scale, 0)[:40] for g in range(2) for r in range(3)]
    rows += [torch.softmax(keys[:40] @ view.request.windows[0, 0, g, -1] * view.scale, 0) for g in range(2)]
    scores = torch.stack(rows).mean(0)
    # A window of four: three rows of the block, and one prefix entry, which is kept whatever its score.
    expected = best(scores[:39], 11) | {39}
    assert chosen(SnapKV(window=4, kernel=1, query_aware=True), view) == expected
    assert chosen(SnapKV(window=3, kernel=1, query_aware=True), view) == best(torch.stack(rows[:6]).mean(0), 12)


def test_query_aware_snapkv_depends_on_the_prompt_tail_alone() -> None:
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
    with pytest.raises(UserError, match="3 tokens is less than one page"):
        top_pages(scores, 4, [3], [10])
    assert top_pages(scores, 4, [3], [3]).tolist() == [[[0, 1, 2, -1]]]
    assert top_pages(scores, 4, [10], [10]).tolist() == [[[*range(10), -1, -1]]]
