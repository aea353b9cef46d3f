"""What methods, observers, traces and recordings have of a commit in one forward with the next block's first step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mage.attention.block import BlockAttention
from mage.generation.decoding import Static
from mage.generation.engine import Engine
from mage.generation.recall import RecallObserver
from mage.mage import Mage
from mage.models.checkpoint import LanguageModel
from mage.view import View
from tests.mage.fused import BLOCK, FUSED, GROUPS, NOT_FUSED, body_of, both, endless
from tests.mage.recordings import METHODS, Counted, Emulated, OnItsOwn, StaticTorch, told, written


@pytest.mark.parametrize("more", [{}, {"denominator": "prefix"}, {"reduction": "max"}], ids=str)
@pytest.mark.parametrize("group", GROUPS)
def test_mage_sees_and_selects_the_same(
    model: LanguageModel, more: dict[str, Any], group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = endless(body_of(model, "llama", 3, **GROUPS[group]))
    seen: list[tuple[Any, ...]] = []

    class Watched(Mage):
        def select(self, view: View) -> Any:
            selection = super().select(view)
            mass = view.mass(self.reduction, self.denominator)
            total = mass.clamp(min=0).sum(-1) if self.reduction == "mean" else None
            assert view.lse_prefix is not None and view.lse_block is not None
            found = (view.lse_prefix, view.lse_block, view.queries, view.block_keys, mass)
            seen.append((view.forward, view.layer, view.lengths, found, selection.indices.sort(-1).values, total))
            return selection

    both(chosen, Watched(dense_layers=1, **more), Static(tokens_per_step=2), [70, 33], [30, 30])
    half = len(seen) // 2
    assert half == 2 * 5  # sparse layers and blocks
    for (forward, layer, lengths, wanted, indices, _), (*told_of, got, fused_indices, total) in zip(
        seen[:half], seen[half:], strict=True
    ):
        assert told_of == [forward, layer, lengths]
        for a, b in zip(wanted, got, strict=True):
            torch.testing.assert_close(b, a, atol=1e-5, rtol=1e-4)
        assert torch.equal(indices, fused_indices)
        assert total is None or bool((total < 1.0 + 1e-5).all())


def test_observers_see_the_open_block_alone(model: LanguageModel) -> None:
    recalls = []
    for fused in (False, True):
        observer = RecallObserver()
        engine = Engine(
            endless(model),
            METHODS["mage"],
            Static(tokens_per_step=2),
            shadow=True,
            observer=observer,
            fuse_commit=fused,
        )
        written(engine, [70], new=60)
        recalls.append(observer.rows)
    assert len(recalls[0]) == len(recalls[1]) > 20
    for wanted, got in zip(*recalls, strict=True):
        assert (got.block, got.step, got.layer, got.recall) == (wanted.block, wanted.step, wanted.layer, wanted.recall)
        assert got.oracle_mass == pytest.approx(wanted.oracle_mass, abs=1e-5)


def test_reads_count_the_prefix_once(model: LanguageModel) -> None:
    dense, mage = (
        both(model, FUSED[name], Static(tokens_per_step=2), [75], [29])[1][1][0].trace for name in ("dense", "mage")
    )
    layers, steps = 3, 4
    # The first block holds the prompt's tail of 3: its 5 slots take 3 steps.
    wanted = [layers * 3 * 72, *(layers * steps * (72 + BLOCK * block) for block in (1, 2, 3))]
    assert [block.dense_reads for block in dense.blocks] == wanted
    assert dense.density == 1.0
    assert [block.dense_reads for block in mage.blocks] == wanted
    selected, sparse_layers, budget = 0.5, 2, 9
    for block, length in zip(mage.blocks, (72, 80, 88, 96)):
        sparse_steps = sum(block.forwards[kind] for kind in ("exact", "fused", "sparse")) - 1
        read = layers * length + sparse_layers * selected * length  # the exact step, and the pass that chooses
        assert block.reads == pytest.approx(read + sparse_steps * (length + sparse_layers * budget))


def test_the_time_of_a_commit_is_that_of_the_next_block(model: LanguageModel) -> None:
    (result,) = both(model, FUSED["mage"], Static(tokens_per_step=2), [75], [29])[1][1]
    for block in result.trace.blocks:
        assert block.seconds["commit"] == 0.0
        assert 0.0 < sum(block.seconds.values()) <= block.elapsed


@pytest.mark.parametrize("name", [*FUSED, "quest", "tidal_decode", "snapkv", "streaming_llm"])
@pytest.mark.parametrize("lengths", [[75], [75, 64, 3, 50]], ids=["one", "uneven"])
@pytest.mark.parametrize("static", [False, True], ids=["baked-lengths", "device-lengths"])
@pytest.mark.parametrize("overlap", [False, True], ids=["", "overlap"])
def test_recorded_forwards_change_nothing(
    model: LanguageModel, name: str, lengths: list[int], static: bool, overlap: bool
) -> None:
    results, Counted.runs = [], 0
    for way, fused in ((None, False), (None, True), (OnItsOwn, True)):
        made = Engine(model, (FUSED | NOT_FUSED)[name], Static(tokens_per_step=2), fuse_commit=fused, overlap=overlap)
        made.operations, made.recording = StaticTorch() if static else made.operations, way
        results.append(written(made, lengths, new=40))
    assert told(results[1]) == told(results[2])
    assert [g.tokens for g in results[0]] == [g.tokens for g in results[1]]
    assert Counted.runs > 0


@pytest.mark.parametrize("name", ["dense", "mage", "mage-refresh", "flash_block"])
@pytest.mark.parametrize("overlap", [False, True], ids=["", "overlap"])
@pytest.mark.parametrize("budget", [9, 0.2])
def test_from_the_fifth_block_on_nothing_is_recorded(
    model: LanguageModel, name: str, overlap: bool, budget: int | float
) -> None:
    kinds: list[bool] = []
    choices: list[object] = []

    class Kept(Emulated):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            if isinstance(self._subject, BlockAttention):
                kinds.append(self._then.ahead > 0)
            else:
                choices.append(self)

    engine = Engine(endless(model), FUSED[name], Static(), fuse_commit=True, overlap=overlap)
    engine.operations, engine.recording = StaticTorch(), Kept
    (result,) = written(engine, [75], new=60, budget=budget)
    captures = [block.captures for block in result.trace.blocks]
    assert len(captures) > 6 and sum(captures[4:]) == 0 and sum(captures[1:4]) > 0
    # fused first steps, and others: exact ones, sparse ones, or those that keep and that reuse
    others = {"dense": 1, "mage": 1, "mage-refresh": 2, "flash_block": 2}[name]
    assert sorted(kinds) == [False] * others + [True]
    # on what a fused first step sees, and on what a step sees that renews the sets
    assert len(choices) == (0 if overlap else {"mage": 1, "mage-refresh": 2}.get(name, 0))


@pytest.mark.parametrize("name", NOT_FUSED)
def test_a_method_that_is_not_fused_is_recorded_once_too(model: LanguageModel, name: str) -> None:
    engine = Engine(endless(model), NOT_FUSED[name], Static(tokens_per_step=2), fuse_commit=True)
    engine.operations, engine.recording = StaticTorch(), Emulated
    captures = [block.captures for block in written(engine, [75], new=60)[0].trace.blocks]
    later = sum(captures[3:])
    assert len(captures) > 6 and sum(captures[:3]) > 0
    assert later > 3 if name == "oracle" else later == 0  # it reads the prefix on the host's word
