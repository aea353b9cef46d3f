"""Recorded forwards write what forwards that run as they are write, and leave the same trace."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest

from baselines.dense import Dense
from mage.attention.block import BlockAttention
from mage.attention.choice import Choice
from mage.attention.forward_pass import Pass
from mage.attention.planning import Planner
from mage.budget import Budget
from mage.generation.captured import Call
from mage.generation.decoding import Static
from mage.generation.editing import Edit
from mage.generation.engine import Engine
from mage.mage import Mage
from mage.models.checkpoint import LanguageModel
from tests.mage.fused import endless
from tests.mage.recordings import (
    CHOOSING,
    DECODINGS,
    METHODS,
    STEADY,
    Counted,
    Emulated,
    OnItsOwn,
    StaticTorch,
    methods,
    steady_methods,
    told,
    written,
)

BLOCK, SPARSE_LAYERS = 8, 2  # of the model, and of MAGE there
# Methods whose sets are chosen by a quota wherever the budget limits a row.
BY_QUOTA = [name for name in STEADY if not name.startswith(("dense", "flash_block"))]


def waits(name: str, static: bool) -> bool:
    """Whether the host asks for the sizes of sets, from some block on: then a forward that selects cannot be recorded
    unless a quota says them."""
    return name not in STEADY and not static


@methods
@pytest.mark.parametrize(("decoding", "budget"), [("threshold", 9), ("static", 0.2)])
@pytest.mark.parametrize("lengths", [[75], [75, 64, 3, 50]], ids=["one", "uneven"])
@pytest.mark.parametrize("static", [False, True], ids=["baked-lengths", "device-lengths"])
def test_recorded_forwards_change_nothing(
    model: LanguageModel, name: str, decoding: str, lengths: list[int], static: bool, budget: int | float
) -> None:
    lengths = [max(n, 24) for n in lengths] if isinstance(budget, float) else lengths  # a share holds a page

    def engine() -> Engine:
        made = Engine(model, METHODS[name], DECODINGS[decoding])
        made.operations = StaticTorch() if static else made.operations
        return made

    plain, recorded, Counted.runs, Emulated.kinds = written(engine(), lengths, budget=budget), engine(), 0, set()
    recorded.recording = Emulated
    assert told(written(recorded, lengths, budget=budget)) == told(plain)
    assert len(plain[0].trace.blocks) > 2
    assert Counted.runs > 0 or waits(name, static)
    if static and name in CHOOSING and decoding == "static" and lengths == [75]:
        assert Emulated.kinds == {BlockAttention, Choice}, "sets are chosen in a recording of their own"


@methods
@pytest.mark.parametrize("lengths", [[24, 75], [16, 32]], ids=["one-from-the-start", "none-at-first"])
def test_rows_that_a_budget_begins_to_limit_later(
    model: LanguageModel, name: str, lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, found, quotas = Planner.plan, [], list[bool | None]()

    def planned(self: Planner, *given: Any, **more: Any) -> Pass:
        now = plan(self, *given, **more)
        quotas.append(None if now.quota is None else now.quota.full)
        return now

    monkeypatch.setattr(Planner, "plan", planned)
    for recording in (None, Emulated):
        engine = Engine(endless(model), METHODS[name], Static(tokens_per_step=2))
        engine.operations, engine.recording = StaticTorch(), recording
        found.append(written(engine, lengths, new=64, budget=40))
    assert told(found[0]) == told(found[1])
    assert sum(block.captures for block in found[1][0].trace.blocks) >= 2
    if name in BY_QUOTA:
        assert [kind for kind, _ in groupby(quotas)] == 2 * ([False, True] if 75 in lengths else [None, False, True])


# Of each kind of forward one: a commit, steps that select and steps that reuse, or keep; with SparseD a step before.
RECORDINGS = {
    "dense": 2,
    "sparse_d": 4,
    **dict.fromkeys(("quest", "quest-query-head", "quest-sparse-commit", "tidal_decode"), 2),
}


@steady_methods
@pytest.mark.parametrize("lengths", [[75], [75, 64]], ids=["one", "uneven"])
@pytest.mark.parametrize("budget", [9, 0.2])
def test_a_recording_serves_all_blocks_where_the_device_knows_the_lengths(
    model: LanguageModel, name: str, lengths: list[int], budget: int | float
) -> None:
    made: list[Call] = []

    class Kept(Emulated):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            if isinstance(self._subject, BlockAttention):
                made.append(self)

    engine = Engine(endless(model), METHODS[name], Static(tokens_per_step=2))
    engine.operations, engine.recording = StaticTorch(), Kept
    for result in written(engine, lengths, new=60, budget=budget):
        assert len(result.trace.blocks) > 6
    assert len(made) == RECORDINGS.get(name, 3)


@pytest.mark.parametrize("more", [{}, {"refresh_every": 2}, {"commit": "sparse"}, {"reduction": "max"}], ids=str)
@pytest.mark.parametrize("lengths", [[72], [72, 64, 40]], ids=["one", "uneven"])
@pytest.mark.parametrize("static", [False, True], ids=["baked-lengths", "device-lengths"])
def test_choosing_beside_the_exact_step_changes_nothing(
    model: LanguageModel, more: dict[str, Any], lengths: list[int], static: bool
) -> None:
    method = Mage(dense_layers=1, **more)
    results = []
    for overlap, recording in ((False, None), (True, None), (True, Emulated)):
        engine = Engine(model, method, Static(tokens_per_step=2), overlap=overlap)
        engine.operations, engine.recording = StaticTorch() if static else engine.operations, recording
        results.append(told(written(engine, lengths, new=32)))
    # Blocks that end with their exact step pay for a set too: here none does.
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("lengths", [[72], [72, 48]], ids=["one", "uneven"])
@pytest.mark.parametrize("budget", [9, 56, 0.2])
def test_what_is_chosen_beside_a_forward_is_the_same_whatever_computes(
    model: LanguageModel, lengths: list[int], budget: int | float
) -> None:
    found = []
    for static in (False, True):
        engine = Engine(endless(model), METHODS["mage"], Static(tokens_per_step=8), overlap=True)
        engine.operations = StaticTorch() if static else engine.operations
        found.append(written(engine, lengths, new=24, budget=budget))
    assert told(found[0]) == told(found[1])
    # Blocks end with the step that chooses: a limited row has paid for that, and read no less for it.
    for row, length in zip(found[0], lengths):
        prefixes = [length + BLOCK * block for block in range(len(row.trace.blocks))]
        paid = [SPARSE_LAYERS * n / 2 * (Budget(budget).resolve(n) < n) for n in prefixes]
        assert [block.reads - block.dense_reads for block in row.trace.blocks] == paid


def test_a_forward_that_chooses_is_recorded_once_for_all_blocks(model: LanguageModel) -> None:
    made: list[bool] = []

    class Kept(Call):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self._then.at_once)

    engine = Engine(model, METHODS["mage"], Static(tokens_per_step=2), overlap=True)
    engine.operations, engine.recording = StaticTorch(), Kept
    written(engine, [75, 64], new=40)
    assert sorted(made) == [False, False, True]


def test_a_block_done_in_its_exact_step_has_paid_for_a_set_chosen_beside_it(model: LanguageModel) -> None:
    plain, beside = (
        written(Engine(model, METHODS["mage"], Static(tokens_per_step=8), overlap=overlap), [72], new=16)[0].trace
        for overlap in (False, True)
    )
    assert plain.density == 1.0
    paid = [block.reads - block.dense_reads for block in beside.blocks]
    assert paid == [SPARSE_LAYERS * length / 2 for length in (72, 80)]


def test_what_the_host_takes_part_in_is_not_recorded(model: LanguageModel) -> None:
    Counted.runs = 0
    for more in ({"shadow": True}, {"observer": lambda view, indices: None}):
        engine = Engine(model, METHODS["mage"], Static(tokens_per_step=2), **more)  # type: ignore[arg-type]
        engine.recording = Counted
        written(engine, [40])
    editing = Engine(model, Dense(), Edit(threshold=0.2))
    editing.recording = Counted
    written(editing, [40])
    assert Counted.runs == 0


@methods
@pytest.mark.parametrize("lengths", [[72], [72, 64, 3, 48]], ids=["one", "uneven"])
@pytest.mark.parametrize("static", [False, True], ids=["baked-lengths", "device-lengths"])
def test_what_is_recorded_asks_nothing_of_the_host(
    model: LanguageModel, name: str, lengths: list[int], static: bool
) -> None:
    engine, Counted.runs = Engine(model, METHODS[name], Static(tokens_per_step=2)), 0
    engine.operations, engine.recording = StaticTorch() if static else engine.operations, OnItsOwn
    written(engine, lengths)
    assert Counted.runs > 0 or waits(name, static)


@methods
@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize("every", [5])
def test_steps_behind_the_end_of_a_block_change_nothing_and_are_counted(
    model: LanguageModel, name: str, decoding: str, every: int
) -> None:
    lengths = [75, 64, 3]
    plain = written(Engine(model, METHODS[name], DECODINGS[decoding]), lengths)
    rarely = written(Engine(model, METHODS[name], DECODINGS[decoding], check_every=every), lengths)
    for ours, theirs in zip(rarely, plain):
        assert ours.tokens == theirs.tokens and ours.trace.tokens_decided == theirs.trace.tokens_decided
        for more, exact in zip(ours.trace.blocks, theirs.trace.blocks):
            steps = [sum(b.forwards[kind] for kind in ("exact", "sparse")) for b in (more, exact)]
            assert steps[0] == -(-steps[1] // every) * every
            assert more.forwards["commit"] == exact.forwards["commit"]


def test_the_seconds_of_a_block_are_part_of_its_elapsed_time(model: LanguageModel) -> None:
    (result,) = written(Engine(model, METHODS["mage"], Static(tokens_per_step=2)), [75])
    for told_of in result.trace.blocks:
        assert 0.0 < sum(told_of.seconds.values()) <= told_of.elapsed
