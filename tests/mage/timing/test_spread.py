"""The interval of a median from order statistics."""

from __future__ import annotations

import pytest
from scipy.stats import binom

from mage.timing.spread import interquartile_range, median_interval


@pytest.mark.parametrize(("count", "ranks"), [(5, None), (6, (0, 5)), (8, (0, 7)), (9, (1, 7)), (20, (5, 14))])
def test_the_interval_is_the_narrowest_that_covers(count: int, ranks: tuple[int, int] | None) -> None:
    values = [float(v) for v in reversed(range(count))]
    assert median_interval(values) == (None if ranks is None else tuple(map(float, ranks)))
    if ranks is not None:
        assert 1 - 2 * binom.cdf(ranks[0], count, 0.5) >= 0.95
        assert 1 - 2 * binom.cdf(ranks[0] + 1, count, 0.5) < 0.95


def test_quartiles() -> None:
    assert interquartile_range([3.0]) == 0.0
    assert interquartile_range([1.0, 2.0, 3.0, 4.0, 5.0]) == 2.0
