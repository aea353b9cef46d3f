"""Random command lines: each is refused in one line before a model loads, or its cells are computed.

`python -m tests.runners.fuzz` tries as many as one likes.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import runners.sweeping.plan
from tests.runners.fuzz import judge
from tests.runners.override_sets import OverrideSet, override_set

SETS = 120


def test_every_command_line_is_refused_or_computed(tiny_checkpoint: Path, tmp_path: Path) -> None:
    kinds: Counter[str] = Counter()
    for number in range(SETS):
        drawn = override_set(1, number, tiny_checkpoint)
        verdict = judge(drawn, tmp_path / str(number))
        assert verdict.kind != "broken", f"{' '.join(drawn.arguments)}\n{verdict.told}"
        kinds[verdict.kind] += 1
    assert kinds["refused"] > SETS / 3 and kinds["computed"] > SETS / 10


def test_a_set_depends_on_its_number_alone(tiny_checkpoint: Path) -> None:
    many = [override_set(3, number, tiny_checkpoint) for number in range(20)]
    assert [override_set(3, number, tiny_checkpoint) for number in (19, 4)] == [many[19], many[4]]
    assert len({drawn.arguments for drawn in many}) > 15
    assert override_set(4, 19, tiny_checkpoint) != many[19]


def test_what_breaks_the_property_is_seen(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = (f"model.weights={tiny_checkpoint}", "method=dense", "examples=1", "tracker=none")
    late = OverrideSet((*small, "task=ruler/niah_single_2"), "a model of another language: the first example tells")
    assert judge(late, tmp_path / "early").kind == "refused"
    monkeypatch.setattr(runners.sweeping.plan, "check_feasible", lambda cell: None)
    assert judge(late, tmp_path / "late").kind == "broken"
    monkeypatch.setattr(runners.sweeping.plan, "check_feasible", lambda cell: 1 / 0)
    assert "ZeroDivisionError" in judge(late, tmp_path / "raised").told
