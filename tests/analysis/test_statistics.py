from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.statistics import (
    bootstrap_interval,
    difference_of_groups,
    mcnemar_exact,
    mean_of_means,
    paired_difference,
    resample_counts,
    stratum,
)


def test_every_resample_draws_as_many_examples_as_there_are() -> None:
    counts = resample_counts(37, 2_500, 1)
    assert counts.shape == (2_500, 37)
    assert (counts.sum(axis=1) == 37).all()
    assert counts.mean(axis=0) == pytest.approx(1, abs=0.1)


def test_bootstrap_interval_is_near_the_normal_one_for_many_values() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    interval = bootstrap_interval(values)
    half = 1.96 * values.std() / math.sqrt(400)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.03)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.03)


def test_bootstrap_interval_of_five_values_is_that_of_the_binomial() -> None:
    # Five draws that are 1 with probability 1/5: at most 2 ones in 94.2 %, at most 3 in 99.3 %, none in 32.8 %.
    interval = bootstrap_interval(np.array([0.0, 0.0, 0.0, 0.0, 1.0]))
    assert (interval.mean, interval.low, interval.high) == (0.2, 0.0, pytest.approx(0.6))
    assert bootstrap_interval(np.array([0.0, 0.0, 0.0, 0.0, 1.0]), confidence=0.2).low == pytest.approx(0.2)


def test_few_values_have_a_mean_and_no_interval() -> None:
    for values in ([1.0], [0.0, 1.0], [0.5] * 4):
        interval = bootstrap_interval(np.array(values))
        assert interval.mean == np.mean(values) and math.isnan(interval.low) and math.isnan(interval.high)
    enough, few = stratum(np.arange(5.0), "a"), stratum(np.arange(4.0), "b")
    assert mean_of_means([enough, enough]).low > 0
    assert mean_of_means([enough, few]).mean == 1.75 and math.isnan(mean_of_means([enough, few]).low)


def test_weights_are_those_of_the_means() -> None:
    parts = [stratum(np.full(5, value), str(value)) for value in (0.0, 1.0, 4.0)]
    found = mean_of_means(parts, [0.5, 0.25, 0.25])
    assert (found.mean, found.low, found.high) == pytest.approx((1.25, 1.25, 1.25))


def test_bootstrap_is_the_same_each_time_and_moves_with_the_seed() -> None:
    values = np.random.default_rng(0).random(50)
    assert bootstrap_interval(values) == bootstrap_interval(values.copy())
    assert bootstrap_interval(values) != bootstrap_interval(values, seed=1)


def test_equal_values_give_no_width() -> None:
    interval = bootstrap_interval(np.full(30, 0.1))
    assert interval.low == interval.high == 0.1


def test_no_values_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval(np.array([]))


def test_paired_difference_pairs_by_id_and_not_by_order() -> None:
    ours = {"a": 1.0, "b": 0.0, "c": 1.0, "d": 0.0, "e": 0.0}
    theirs = {"e": 0.0, "d": 0.0, "c": 1.0, "b": 0.0, "a": 1.0}
    difference = paired_difference(ours, theirs)
    assert (difference.mean, difference.low, difference.high) == (0.0, 0.0, 0.0)


def test_pairing_removes_the_variance_that_both_share() -> None:
    dense = {str(i): float(i % 2) for i in range(100)}
    method = {**dense, "1": 0.0, "3": 0.0}
    paired = paired_difference(method, dense)
    alone = bootstrap_interval(np.array(list(method.values())))
    assert paired.mean == pytest.approx(-0.02)
    assert paired.high - paired.low < (alone.high - alone.low) / 2


def test_other_ids_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'b'"):
        paired_difference({"a": 1.0}, {"a": 1.0, "b": 0.0})


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (0, 1, 1.0),
        (0, 6, 2 / 64),
        (1, 8, 20 / 512),
        (10, 3, 2 * (1 + 13 + 78 + 286) / 8192),
    ],
)
def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs(gained: int, lost: int, p: float) -> None:
    dense = {f"g{i}": 0.0 for i in range(gained)} | {f"l{i}": 1.0 for i in range(lost)} | {"same": 1.0}
    method = {f"g{i}": 1.0 for i in range(gained)} | {f"l{i}": 0.0 for i in range(lost)} | {"same": 1.0}
    assert mcnemar_exact(method, dense) == pytest.approx(p)


def test_mcnemar_counts_a_share_once_by_the_sign_of_its_difference() -> None:
    dense = {str(i): 1.0 for i in range(6)}
    assert mcnemar_exact({i: 0.75 for i in dense}, dense) == pytest.approx(2 / 64)
    assert mcnemar_exact({**dense, "0": 0.25}, dense) == 1


def test_mcnemar_agrees_with_scipy_on_many_pairs() -> None:
    from scipy.stats import binomtest

    random = np.random.default_rng(3)
    dense = {str(i): float(random.random() < 0.8) for i in range(2_000)}
    method = {k: v if random.random() < 0.9 else float(random.random() < 0.6) for k, v in dense.items()}
    gained = sum(method[k] > dense[k] for k in dense)
    lost = sum(method[k] < dense[k] for k in dense)
    assert mcnemar_exact(method, dense) == pytest.approx(binomtest(gained, gained + lost).pvalue, rel=1e-9)


def test_the_difference_of_two_groups_has_the_width_of_a_two_sample_interval() -> None:
    random = np.random.default_rng(5)
    first = np.arange(300) % 3 == 0
    values = random.normal(0.0, 1.0, 300) + 0.5 * first
    found = difference_of_groups(values, first)
    assert found.mean == values[first].mean() - values[~first].mean()
    error = math.sqrt(values[first].var() / 100 + values[~first].var() / 200)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.05)
    turned = difference_of_groups(values, ~first)
    assert (turned.mean, turned.low, turned.high) == pytest.approx((-found.mean, -found.high, -found.low))


def test_the_difference_of_two_groups_is_over_contexts_where_there_are_some() -> None:
    contexts = [f"c{i // 10}" for i in range(200)]
    values = np.repeat(np.random.default_rng(6).normal(size=20), 10)
    first = np.arange(200) % 20 < 10  # every other context
    alone, together = (difference_of_groups(values, first, named) for named in (None, contexts))
    assert together.mean == alone.mean
    assert together.high - together.low > 2 * (alone.high - alone.low)


@pytest.mark.parametrize(("count", "told"), [(0, False), (4, False), (5, True), (20, False)])
def test_a_small_group_has_no_interval(count: int, told: bool) -> None:
    found = difference_of_groups(np.arange(20.0), np.arange(20) < count)
    assert math.isnan(found.low) is not told
    assert math.isnan(found.mean) is (count in (0, 20))


@pytest.mark.parametrize(("contexts", "told"), [(4, False), (5, True)])
def test_a_group_in_few_contexts_has_no_interval(contexts: int, told: bool) -> None:
    names = [f"c{i // 10}" for i in range(200)]
    found = difference_of_groups(np.random.default_rng(7).normal(size=200), np.arange(200) < 10 * contexts, names)
    assert math.isnan(found.low) is not told
