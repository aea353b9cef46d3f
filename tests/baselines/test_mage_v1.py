"""MAGE v1: unions, layer scores, layer budgets and sets, against a naive reading of the paper."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mage.errors import UserError
from mage.mage_v1 import MageV1, layer_budgets
from mage.method import Selection, SelectionError, check_average
from mage.selection import top_k_mask
from mage.view import View
from tests.baselines.views import SHAPES, best, make_view, naive_rows

LAYERS = 4


def layers(shape: tuple[int, int, int, int], budget: int = 6) -> list[View]:
    """Layers whose attention is more peaked the higher they stand."""
    views = [make_view(shape, budget=budget, layer=layer, draw=layer + 1) for layer in range(LAYERS)]
    for layer, view in enumerate(views):
        view.keys *= (0.1, 0.4, 0.8, 1.5)[layer]
    return views


def naive_union(view: View, b: int, h: int, denominator: str) -> tuple[set[int], float]:
    """The union of the rows' own top-K, and |U| (1 - log p)."""
    rows = naive_rows(view, b, h, denominator)
    union = set[int]().union(*(best(row, view.budgets[b]) for row in rows))
    covered = sum(float(row[list(union)].sum()) for row in rows) / len(rows)
    return union, len(union) * (1.0 - math.log(covered))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("denominator", ["prefix+block", "prefix"])
def test_sets_are_those_of_the_paper(shape: tuple[int, int, int, int], denominator: str) -> None:
    views = layers(shape)
    selections = MageV1(min_share=0.0, denominator=denominator).select_layers(views)
    assert all(selection.metadata_tokens == [20.0] * shape[0] for selection in selections)
    short = long = 0
    for b in range(shape[0]):
        found = [[naive_union(view, b, h, denominator) for h in range(shape[1])] for view in views]
        scores = [max(score for _, score in heads) for heads in found]
        for view, heads, score, selection in zip(views, found, scores, selections):
            k = max(1, math.floor(score / sum(scores) * 6 * LAYERS))
            for h, (union, _) in enumerate(heads):
                votes = naive_rows(view, b, h, denominator).mean(0)
                expected = sorted(union, key=lambda j: -float(votes[j]))[:k]
                recent = [j for j in reversed(range(40)) if j not in union]
                expected += recent[: k - len(expected)]
                assert {j for j in selection.indices[b, h].tolist() if j >= 0} == set(expected)
                short, long = short + (k < len(union)), long + (k > len(union))
    assert short > 0, "the test needs a union that is cut"
    assert long > 0 or shape[3] > 1, "the test needs a union that is filled"


def test_the_denominators_choose_differently() -> None:
    views = layers((2, 2, 3, 4))
    chosen = [MageV1(denominator=name).select_layers(views) for name in ("prefix", "prefix+block")]
    assert any(a.indices.shape != b.indices.shape or (a.indices != b.indices).any() for a, b in zip(*chosen))


def test_a_row_whose_budget_covers_its_prefix_gets_all_of_it() -> None:
    views = layers((2, 2, 3, 4))
    for view in views:
        view.lengths, view.budgets = [40, 5], [6, 5]
        view.mask = (torch.arange(40) < torch.tensor(view.lengths)[:, None])[:, None, None]
    selections = MageV1().select_layers(views)
    for view, selection in zip(views, selections):
        selection.check(view, limited=False)
        assert all({j for j in head if j >= 0} == set(range(5)) for head in selection.indices[1].tolist())
    alone = [make_view((2, 2, 3, 4), budget=6, layer=layer, draw=layer + 1) for layer in range(LAYERS)]
    for view, before in zip(alone, views):
        view.keys, view.queries, view.block_keys = (x[:1] for x in (before.keys, before.queries, before.block_keys))
        view.lengths, view.budgets = [40], [6]
    for ours, theirs in zip(MageV1().select_layers(alone), selections):
        assert [{j for j in head if j >= 0} for head in ours.indices[0].tolist()] == [
            {j for j in head if j >= 0} for head in theirs.indices[0].tolist()
        ]


def test_padding_takes_no_place_in_the_union_where_probabilities_underflow() -> None:
    """One key has all the mass of a row: the others, and the padding behind them, are zero."""
    probabilities = torch.zeros(2, 1, 2, 64)
    probabilities[..., 3] = 1.0
    mask = top_k_mask(probabilities, [4, 4], [5, 64])
    assert mask.sum(-1).tolist() == [[[4, 4]], [[4, 4]]] and not mask[0, ..., 5:].any() and mask[..., 3].all()


scores_of_layers = st.lists(st.floats(1.0, 1e6), min_size=1, max_size=40)


@given(scores=scores_of_layers, average=st.integers(1, 4096), share=st.floats(0.0, 1.0))
def test_layer_budgets_keep_the_average_and_the_lowest(scores: list[float], average: int, share: float) -> None:
    lowest = max(1, int(share * average))
    budgets = layer_budgets(scores, average, lowest)
    total = average * len(scores)
    assert min(budgets) >= lowest and total - len(scores) < sum(budgets) <= total
    ranked = [budget for _, budget in sorted(zip(scores, budgets))]
    assert ranked == sorted(ranked), "a needier layer gets no less"


@pytest.mark.parametrize(
    ("scores", "average", "lowest", "expected"),
    [
        ([1.0, 3.0], 10, 1, [5, 15]),  # floor(s / sum K L)
        ([1.0, 1.0, 1.0], 32, 32, [32, 32, 32]),
        ([1.0, 99.0], 10, 4, [4, 16]),  # the paper's floor would give 4 + 19
        ([1.0, 10.0, 89.0], 10, 4, [4, 4, 22]),  # what is lifted twice is taken twice
        ([7.0], 10, 1, [10]),
    ],
)
def test_layer_budgets_by_hand(scores: list[float], average: int, lowest: int, expected: list[int]) -> None:
    assert layer_budgets(scores, average, lowest) == expected


def test_layers_together_may_not_exceed_the_average() -> None:
    seven, nine = (Selection(torch.arange(n).expand(1, 2, -1)) for n in (7, 9))
    check_average([seven, nine], [8])
    with pytest.raises(SelectionError, match="18 entries over 2 layers under a budget of 16"):
        check_average([nine, nine], [8])


@pytest.mark.parametrize(
    ("options", "words"),
    [({"min_share": 1.5}, "min_share=1.5"), ({"denominator": "block"}, "denominator=block")],
)
def test_options_out_of_range(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        MageV1(**options)  # type: ignore[arg-type]
