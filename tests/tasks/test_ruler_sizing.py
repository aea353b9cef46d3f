"""The search for the size of a haystack."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tasks.ruler.sizing import SHARE, most_units


@given(
    unit=st.floats(0.2, 300),
    frame=st.integers(0, 2000),
    room=st.integers(1, 200_000),
    least=st.integers(1, 80),
    most=st.none() | st.integers(80, 5000),
)
def test_even_units_fill_the_room(unit: float, frame: int, room: int, least: int, most: int | None) -> None:
    calls: list[int] = []

    def tokens(units: int) -> int:
        calls.append(units)
        return frame + int(units * unit)

    found = most_units(tokens, room, least, most)
    if tokens(least) > room:
        assert found is None
        return
    assert found is not None
    assert least <= found and (most is None or found <= most)
    assert tokens(found) <= room
    assert found == most or tokens(found) + unit + 1 + room / SHARE >= room
    assert len(calls) <= 16


@given(costs=st.lists(st.integers(1, 40), min_size=50, max_size=120), room=st.integers(0, 3000))
def test_uneven_units_never_exceed_the_room(costs: list[int], room: int) -> None:
    sums = [0, *itertools.accumulate(costs)]
    found = most_units(sums.__getitem__, room, 1, len(costs))
    if costs[0] > room:
        assert found is None
    else:
        assert found is not None
        assert sums[found] <= room
        assert found == len(costs) or sums[found] >= room - 120
