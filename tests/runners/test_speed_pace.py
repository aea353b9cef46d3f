"""How long the speed suite takes a point to last."""

from __future__ import annotations

import pytest

from mage.models.families.registry import body_config
from mage.timing.counts import Shape, forward_parts, least_seconds, prefill_parts
from mage.timing.roofs import Roofs
from mage.timing.workload import Workload
from runners.speed_pace import FIRST, Pace
from runners.speed_point import Point, points
from tests.conftest import CONFIG

BODY, ROOFS, BLOCK = body_config(CONFIG), Roofs(1e9, 1e10), 8


def test_the_least_of_a_contest_is_that_of_its_forwards() -> None:
    pace, shape = Pace(BODY, 4, BLOCK, ROOFS), Shape(BODY, 4, 2, BLOCK)

    def forward(entries: int) -> float:
        return least_seconds(forward_parts(shape, BODY.num_layers * entries), ROOFS)

    cold, warm = (Workload(context=640, batch=2, warm_blocks=blocks) for blocks in (0, 3))
    each = (BLOCK + 1) * (forward(640) + 2 * forward(16))
    assert pace.contest(cold, 16, rounds=2) == pytest.approx(3 * each)  # a round warms up
    assert pace.contest(warm, 16, rounds=2) == pytest.approx(2 * 4 * each)  # each generation does
    whole = least_seconds(prefill_parts(Shape(BODY, 4, 1, BLOCK), 640, unit=BLOCK, chunk=128), ROOFS)
    assert pace.prefill(640, 128) == pytest.approx(whole)


def test_each_kind_of_work_is_expected_to_take_what_it_last_took() -> None:
    pace = Pace(BODY, 4, BLOCK, ROOFS)
    assert pace.expected("mage", 2.0) == 2.0 * FIRST
    pace.learn("mage", 2.0, 40.0)
    pace.learn("mage", 2.0, 10.0)
    assert pace.expected("mage", 3.0) == 15.0 and pace.expected("quest", 3.0) == 3.0 * FIRST


def test_the_most_telling_points_come_first_and_none_is_left_out() -> None:
    found = points([131072, 32768, 8192, 65536], [1, 8, 4])
    assert [(p.context // 1024, p.batch, p.method) for p in found] == [
        *((128, 1, "mage"), (128, 8, "mage"), (32, 1, "mage"), (32, 8, "mage"), (8, 1, "mage"), (8, 8, "mage")),
        *((128, 1, "quest"), (128, 4, "mage"), (32, 1, "quest"), (32, 4, "mage"), (8, 4, "mage")),
        *((64, 1, "mage"), (64, 8, "mage"), (64, 4, "mage")),
    ]
    assert points([64], [2]) == [Point(64, 2, "mage"), Point(64, 2, "quest")]
