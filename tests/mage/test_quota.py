"""Sets chosen by what the device knows of lengths and budgets are those that the host would have chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from baselines.snapkv import SnapKV
from mage.attention.operations import Lengths
from mage.generation.decoding import Static
from mage.generation.engine import Engine
from mage.models.checkpoint import LanguageModel
from mage.quota import Quotas
from mage.view import View
from tests.mage.fused import endless
from tests.mage.recordings import METHODS, Emulated, StaticTorch, methods, told, written

HEADS = 2


@given(st.data(), st.sampled_from([1, 2, 4]))
@settings(max_examples=100, deadline=None)
def test_the_best_pages_of_each_row(data: st.DataObject, page_size: int) -> None:
    rows = st.lists(st.integers(1, 12), min_size=1, max_size=3)
    lengths = [page_size * n for n in data.draw(rows)]
    budgets = [data.draw(st.integers(page_size, 16)) for _ in lengths]
    capacity = max(lengths) + page_size * data.draw(st.integers(0, 3))
    room = min(max(budgets) + data.draw(st.integers(0, 3)), capacity)
    budgets = [min(budget, room) for budget in budgets]
    limited = [budget < length for budget, length in zip(budgets, lengths)]
    order = torch.randperm(len(lengths) * HEADS * capacity // page_size).float()
    scores = order.view(len(lengths), HEADS, -1)
    quota = Quotas(room).of(budgets, limited, Lengths.of(lengths, torch.device("cpu")))
    indices, counts = quota.best(scores, page_size)
    assert indices.shape == (len(lengths), HEADS, room // page_size * page_size)
    assert quota.full == (counts is None) == (all(limited) and set(budgets) == {room})
    for row, (budget, length) in enumerate(zip(budgets, lengths)):
        pages = length // page_size if budget >= length else budget // page_size
        assert counts is None or int(counts[row]) == pages * page_size
        for head in range(HEADS):
            ranked = sorted(range(length // page_size), key=lambda page: -float(scores[row, head, page]))
            wanted = [page * page_size + n for page in sorted(ranked[:pages]) for n in range(page_size)]
            assert indices[row, head].tolist() == wanted + [-1] * (indices.shape[2] - len(wanted))


def test_budgets_stay_in_one_place() -> None:
    quotas, valid = Quotas(5), Lengths.of([9, 20], torch.device("cpu"))
    first = quotas.of([2, 3], [True, True], valid).budgets
    second = quotas.of([2, 4], [True, True], valid).budgets
    assert first is second is not None and second.tolist() == [2, 4] and second.dtype == torch.int32


@methods
@pytest.mark.parametrize("lengths", [[75], [75, 64, 24, 50]], ids=["one", "uneven"])
@pytest.mark.parametrize("budget", [9, 40, 0.2])
def test_sets_and_reads_are_those_of_the_host(
    model: LanguageModel, name: str, lengths: list[int], budget: int | float
) -> None:
    found: list[Any] = []
    for static in (False, True):
        sets: list[Any] = []
        engine = Engine(model, METHODS[name], Static(tokens_per_step=2), observer=collector(sets))
        engine.operations = StaticTorch() if static else engine.operations
        results = written(engine, lengths, budget=budget)
        reads = [[(block.reads, block.dense_reads) for block in result.trace.blocks] for result in results]
        found.append(([result.tokens for result in results], reads, sets))
    assert found[0] == found[1] and found[0][2]


def collector(sets: list[Any]) -> Callable[[View, Tensor | None], None]:
    """Collects what is attended to; of a row whose budget covers its prefix that is all of it, attended to as a set or
    as it stands."""

    def collect(view: View, indices: Tensor | None) -> None:
        rows = [] if indices is None else [[[i for i in head if i >= 0] for head in row] for row in indices.tolist()]
        sets.append((view.forward, view.layer, rows))

    return collect


@pytest.mark.parametrize("recorded", [False, True])
def test_quest_bounds_new_pages_once_a_block(model: LanguageModel, recorded: bool) -> None:
    seen: list[tuple[int, list[int]]] = []

    class Watched(StaticTorch):
        def page_bounds(self, keys: Tensor, lengths: Lengths, page_size: int, first_page: int, out: Any) -> None:
            seen.append((first_page, lengths.host))
            super().page_bounds(keys, lengths, page_size, first_page, out)

    engine = Engine(endless(model), METHODS["quest"], Static(tokens_per_step=2))
    engine.operations, engine.recording = Watched(), Emulated if recorded else None
    (result,) = written(engine, [75], new=29)
    assert all(block.seconds["selection"] > 0.0 for block in result.trace.blocks), "they are part of its time"
    wanted = [(0, [72]), (72 // 4, [80]), (80 // 4, [88]), (88 // 4, [96])]
    assert seen == [once for once in wanted for _ in range(2)]  # sparse layers


def test_snapkv_has_room_for_the_answer_and_not_for_other_rows(model: LanguageModel) -> None:
    sets: list[Any] = []
    engine = Engine(
        model, SnapKV(window=4), Static(tokens_per_step=2), observer=lambda _, indices: sets.append(indices)
    )
    engine.operations = StaticTorch()
    written(engine, [160, 24], new=24)
    budget, longest_answer = 9, 24 + 8  # of blocks of 8
    assert {indices.shape[2] for indices in sets if indices is not None} <= set(
        range(budget, budget + longest_answer + 1)
    )
    assert len({indices.shape for indices in sets if indices is not None}) == 1


@pytest.mark.parametrize("name", ["tidal_decode", "snapkv", "streaming_llm"])
def test_kernels_choose_the_same(model: LanguageModel, name: str) -> None:
    pytest.importorskip("triton")
    if torch.cuda.is_available():
        pytest.skip("the model is on the CPU, where kernels run in the interpreter alone")
    found = []
    for attention, recording in (("torch", None), ("triton", Emulated)):
        engine = Engine(endless(model), METHODS[name], Static(tokens_per_step=4), attention=attention)
        engine.recording = recording
        found.append(written(engine, [16], new=24, budget=0.3))
    assert told(found[0]) == told(found[1])
    assert sum(block.captures for block in found[1][0].trace.blocks) > 0
