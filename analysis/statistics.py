"""Paired statistics of per-example scores.

Two methods that answer the same examples are compared example by example. Unpaired tests throw away most of the power:
a comparison that McNemar's test settles at p = .008 stays open at p = .080 when it is treated as two samples.

Examples that share a context are not independent: contexts are then what is resampled and tested, each with all of its
examples (the cluster bootstrap; Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8).
"""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from analysis.contexts import in_order

Floats = NDArray[np.float64]

RESAMPLES = 10_000
SEED = 20_260_000
CHUNK = 1_000
FEWEST = 5
"""Examples, or contexts, below which there is no interval: resamples of one are that one, again and again."""


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
    values: Floats,
    contexts: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Interval:
    """Percentile bootstrap interval of the mean of `values` [n] (Efron 1979), the same for the same input.

    `contexts` [n]: values of the same one are drawn together; None: each on its own.
    Where all values are equal the interval has no width, however few they are.
    Raises ValueError when there is no value.
    """
    if values.size == 0:
        raise ValueError("a bootstrap interval needs at least one value")
    mean = float(values.mean())
    sums, sizes = _by_context(values, contexts)
    if sums.size < FEWEST:
        return Interval(mean, math.nan, math.nan)
    return _percentiles(mean, _resampled_means(sums, sizes, resamples, seed), confidence)


def _by_context(values: Floats, contexts: Sequence[str] | None) -> tuple[Floats, Floats | None]:
    """The sum of the values of each context and their number; the values themselves and None without contexts."""
    if contexts is None:
        return values, None
    _, places = np.unique(np.asarray(contexts), return_inverse=True)
    return np.bincount(places, weights=values).astype(np.float64), np.bincount(places).astype(np.float64)


def _resampled_means(sums: Floats, sizes: Floats | None, resamples: int, seed: int) -> Floats:
    counts = resample_counts(sums.size, resamples, seed)
    chunks = []
    for start in range(0, resamples, CHUNK):
        drawn = counts[start : start + CHUNK].astype(np.float64)
        chunks.append(drawn @ sums / (sums.size if sizes is None else drawn @ sizes))
    return np.concatenate(chunks)


def _percentiles(mean: float, means: Floats, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    # Sums in another order differ in the last bits; a difference of exactly zero must not come out as 1e-17.
    return Interval(mean, float(round(low, 12)), float(round(high, 12)))


def difference_of_groups(
    values: Floats,
    chosen: NDArray[np.bool_],
    contexts: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Interval:
    """The mean of the `chosen` [n] of `values` [n] less that of the others, with its bootstrap interval.

    Examples are resampled, or `contexts` [n]: how many of each group are drawn varies, and resamples without one of
    them are left out. NaN where a group is empty; without an interval where one has fewer than FEWEST examples, or
    contexts.
    """
    if chosen.all() or not chosen.any():
        return Interval(math.nan, math.nan, math.nan)
    mean = float(values[chosen].mean() - values[~chosen].mean())
    means = []
    for group in (chosen, ~chosen):
        (sums, _), (sizes, _) = (_by_context(part, contexts) for part in (values * group, group.astype(np.float64)))
        if np.count_nonzero(sizes) < FEWEST:
            return Interval(mean, math.nan, math.nan)
        with np.errstate(invalid="ignore"):  # a resample without any of the group
            means.append(_resampled_means(sums, sizes, resamples, seed))
    differences = means[0] - means[1]
    return _percentiles(mean, differences[~np.isnan(differences)], confidence)


@dataclass(frozen=True)
class Stratum:
    """The mean of the examples of one task, the means of its resamples [resamples], and what was resampled: `size`
    examples or contexts."""

    mean: float
    resampled: Floats
    size: int


def stratum(
    values: Floats,
    name: str,
    contexts: Sequence[str] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Stratum:
    """Resamples `values` [n] of the task `name`. Tasks of other names are resampled independently.

    `contexts`: see `bootstrap_interval`.

    Raises ValueError when there is no value.
    """
    if values.size == 0:
        raise ValueError("a stratum needs at least one value")
    own = seed + zlib.crc32(name.encode())
    sums, sizes = _by_context(values, contexts)
    return Stratum(float(values.mean()), _resampled_means(sums, sizes, resamples, own), sums.size)


def mean_of_means(
    strata: Sequence[Stratum], weights: Sequence[float] | None = None, *, confidence: float = 0.95
) -> Interval:
    """The mean of the means of several tasks with its percentile bootstrap interval.

    Each task weighs the same where there are no `weights`. Examples are resampled within each task: the tasks are those
    of the benchmark, not drawn from many. There is no interval when any task has fewer than FEWEST of them.
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
    contexts: Mapping[str, str] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Interval:
    """Mean of `values - baseline` over examples paired by id, with its bootstrap interval over examples.

    `contexts`: the context of each example that shares it, by id; the interval is then over contexts.
    """
    ours, theirs = paired_values(values, baseline)
    shared = in_order(sorted(values), contexts or {})
    return bootstrap_interval(ours - theirs, shared, confidence=confidence, resamples=resamples, seed=seed)


def mcnemar_exact(
    values: Mapping[str, float], baseline: Mapping[str, float], contexts: Mapping[str, str] | None = None
) -> float:
    """Two-sided exact McNemar p of two binary outcomes (0 or 1) paired by id.

    Only the discordant pairs count; under the hypothesis each falls on either side with probability one half. Of an
    example asked under several seeds the values are shares: the pair counts once, by the sign of its difference. This
    is the exact sign test, whose case of binary outcomes is McNemar's.

    `contexts`: see `paired_difference`. Examples of one context change sides together: the statistic is the same, pairs
    gained less pairs lost, and under the hypothesis those of a whole context count with either sign with probability
    one half (the exact randomisation test). One example a context gives McNemar's p.
    """
    ours, theirs = paired_values(values, baseline)
    if contexts:
        return _randomised(ours - theirs, in_order(sorted(values), contexts))
    gained, lost = int(np.sum(ours > theirs)), int(np.sum(ours < theirs))
    discordant = gained + lost
    tail = sum(math.comb(discordant, i) for i in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**discordant)


def _randomised(differences: Floats, contexts: Sequence[str] | None) -> float:
    """The share of the ways to sign the contexts that bring a sum of signs as far from zero as the one found."""
    sums, _ = _by_context(np.sign(differences), contexts)
    ways = {0: 1}
    for weight in [int(total) for total in sums if total]:
        turned: dict[int, int] = defaultdict(int)
        for total, count in ways.items():
            turned[total + weight] += count
            turned[total - weight] += count
        ways = turned
    found = abs(int(sums.sum()))
    return sum(count for total, count in ways.items() if abs(total) >= found) / sum(ways.values())
