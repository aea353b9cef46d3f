"""Middle and spread of repeated timings."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from statistics import median, quantiles

__all__ = ["interquartile_range", "median", "median_interval"]


def interquartile_range(values: Sequence[float]) -> float:
    """Return the distance between the quartiles; zero for a single value."""
    if len(values) < 2:
        return 0.0
    low, _, high = quantiles(values, n=4, method="inclusive")
    return high - low


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Return the narrowest pair of order statistics that holds the median with at least `confidence`, None where not
    even the smallest and the largest value do: of fewer than six values at 95 %.

    The number of values below the median is binomial with one half, whatever the distribution (David and Nagaraja,
    Order Statistics, 2003, section 7.1).
    """
    ordered, count = sorted(values), len(values)
    found, outside = None, 0.0
    for rank in range(count // 2):
        outside += 2 * comb(count, rank) / 2**count
        if 1 - outside < confidence:
            break
        found = ordered[rank], ordered[count - 1 - rank]
    return found
