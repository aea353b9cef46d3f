"""Paired statistics of per-example scores.

Two methods that answer the same examples are compared example by example. Unpaired tests throw away most of the power:
a comparison that McNemar's test settles at p = .008 stays open at p = .080 when it is treated as two samples.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 10_000
SEED = 20_260_000
CHUNK = 1_000
FEWEST = 5
"""Examples below which there is no interval: resamples of one example are that example, again and again."""


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval, in the unit of the values. Of fewer than FEWEST values the ends are NaN."""

    mean: float
    low: float
    high: float


@lru_cache(maxsize=4)
def resample_counts(size: int, resamples: int, seed: int) -> NDArray[np.uint8]:
    """How often each of `size` examples is drawn in each resample: [resamples, size].

    Kept between calls: every cell of a sweep with the same number of examples uses the same resamples.
    """
    random = np.random.default_rng([seed, size])
    counts = np.empty((resamples, size), dtype=np.uint8)
    for start in range(0, resamples, CHUNK):
        rows = min(CHUNK, resamples - start)
        drawn = random.integers(0, size, (rows, size)) + np.arange(rows)[:, None] * size
        counts[start : start + rows] = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
    return counts


def bootstrap_interval(
    values: Floats, *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval:
    """Percentile bootstrap interval of the mean of `values` [n] (Efron 1979), the same for the same input.

    Where all values are equal the interval has no width, however few they are.
    Raises ValueError when there is no value.
    """
    if values.size == 0:
        raise ValueError("a bootstrap interval needs at least one value")
    mean = float(values.mean())
    if values.size < FEWEST:
        return Interval(mean, math.nan, math.nan)
    return _percentiles(mean, _resampled_means(values, resamples, seed), confidence)


def _resampled_means(values: Floats, resamples: int, seed: int) -> Floats:
    counts = resample_counts(values.size, resamples, seed)
    chunks = [counts[i : i + CHUNK].astype(np.float64) @ values for i in range(0, resamples, CHUNK)]
    return np.asarray(np.concatenate(chunks) / values.size)


def _percentiles(mean: float, means: Floats, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    # Sums in another order differ in the last bits; a difference of exactly zero must not come out as 1e-17.
    return Interval(mean, float(round(low, 12)), float(round(high, 12)))


@dataclass(frozen=True)
class Stratum:
    """The mean of the `size` examples of one task, and the means of its resamples [resamples]."""

    mean: float
    resampled: Floats
    size: int


def stratum(values: Floats, name: str, *, resamples: int = RESAMPLES, seed: int = SEED) -> Stratum:
    """Resamples `values` [n] of the task `name`. Tasks of other names are resampled independently.

    Raises ValueError when there is no value.
    """
    if values.size == 0:
        raise ValueError("a stratum needs at least one value")
    own = seed + zlib.crc32(name.encode())
    return Stratum(float(values.mean()), _resampled_means(values, resamples, own), values.size)


def mean_of_means(
    strata: Sequence[Stratum], weights: Sequence[float] | None = None, *, confidence: float = 0.95
) -> Interval:
    """The mean of the means of several tasks with its percentile bootstrap interval.

    Each task weighs the same where there are no `weights`. Examples are resampled within each task: the tasks are those
    of the benchmark, not drawn from many. There is no interval when any task has fewer than FEWEST examples.
    """
    mean = float(np.average([s.mean for s in strata], weights=weights))
    if min(s.size for s in strata) < FEWEST:
        return Interval(mean, math.nan, math.nan)
    return _percentiles(mean, np.average([s.resampled for s in strata], axis=0, weights=weights), confidence)


def paired_values(first: Mapping[str, float], second: Mapping[str, float]) -> tuple[Floats, Floats]:
    """Values of the same examples in the same order: two arrays [n]. Raises ValueError when the ids differ."""
    odd = sorted(set(first) ^ set(second))
    if odd:
        raise ValueError(f"{len(odd)} example ids stand on one side only, the first is {odd[0]!r}")
    ids = sorted(first)
    return np.array([first[i] for i in ids], dtype=np.float64), np.array([second[i] for i in ids], dtype=np.float64)


def paired_difference(
    values: Mapping[str, float],
    baseline: Mapping[str, float],
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Interval:
    """Mean of `values - baseline` over examples paired by id, with its bootstrap interval over examples."""
    ours, theirs = paired_values(values, baseline)
    return bootstrap_interval(ours - theirs, confidence=confidence, resamples=resamples, seed=seed)


def mcnemar_exact(values: Mapping[str, float], baseline: Mapping[str, float]) -> float:
    """Two-sided exact McNemar p of two binary outcomes (0 or 1) paired by id.

    Only the discordant pairs count; under the hypothesis each falls on either side with probability one half. Of an
    example asked under several seeds the values are shares: the pair counts once, by the sign of its difference. This
    is the exact sign test, whose case of binary outcomes is McNemar's.
    """
    ours, theirs = paired_values(values, baseline)
    gained, lost = int(np.sum(ours > theirs)), int(np.sum(ours < theirs))
    discordant = gained + lost
    tail = sum(math.comb(discordant, i) for i in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**discordant)
