"""SparseD: when it stops to be dense, and which key blocks it freezes."""

from __future__ import annotations

import pytest

from baselines.sparse_d import SparseD
from mage.budget import Budget
from mage.errors import UserError
from mage.view import Forward
from tests.baselines.views import SHAPES, best, make_view, naive_rows


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_key_blocks_with_the_highest_mean_probability(shape: tuple[int, int, int, int]) -> None:
    view = make_view(shape, prefix=40, budget=15)
    indices = SparseD(page_size=5).select(view).indices
    for b in range(shape[0]):
        for h in range(shape[1]):
            means = naive_rows(view, b, h).view(-1, 8, 5).mean((0, 2))  # over rows and keys of each block
            assert set(indices[b, h].tolist()) == {5 * page + i for page in best(means, 3) for i in range(5)}


@pytest.mark.parametrize(
    ("options", "block_size", "expected"),
    [
        ({}, 10, "eeAsss"),  # int(10 * 0.2) = 2 exact steps, and the one that chooses
        ({}, 4, "Assssss"),
        ({"skip": 0.0}, 32, "Assss"),
        ({"skip": 0.5}, 7, "eeeAss"),
        ({"dense_steps": 2}, 32, "eAssss"),
    ],
)
def test_steps_before_the_pattern_are_exact(options: dict[str, float], block_size: int, expected: str) -> None:
    """e: exact; A: exact, then select; s: sparse."""
    method = SparseD(**options).for_model(3, block_size)  # type: ignore[arg-type]
    letters = {(True, None): "e", (True, "after"): "A", (False, None): "s"}
    plans = [method.plan(Forward(1, step)) for step in range(1, len(expected) + 1)]
    assert "".join(letters[plan.exact, plan.select] for plan in plans) == expected
    assert method.plan(Forward(1, 9, commit=True)).exact


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"skip": 1.0}, "skip=1.0"),
        ({"dense_steps": 0}, "dense_steps=0"),
        ({"page_size": 0}, "page_size=0"),
        ({"commit": "sparse"}, "commit=sparse needs one exact step, and here are 7"),
    ],
)
def test_options_out_of_range(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        SparseD(**options).for_model(3, 32)  # type: ignore[arg-type]
    assert SparseD(commit="sparse", skip=0.0).for_model(3, 32).dense_steps == 1


def test_a_budget_below_one_key_block_is_refused() -> None:
    with pytest.raises(UserError, match="budget of 31 tokens is less than one page"):
        SparseD().check_budget(Budget(31))
