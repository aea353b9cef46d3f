"""One matrix: every method through the same properties."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from baselines.dense import Dense
from baselines.oracle import Oracle
from baselines.quest import Quest
from baselines.random import Random
from baselines.snapkv import SnapKV
from baselines.streaming_llm import StreamingLLM
from mage.budget import Budget
from mage.errors import UserError
from mage.generation.decoding import Static
from mage.generation.engine import Engine
from mage.mage import Mage
from mage.mage_v1 import MageV1
from mage.method import Method, Selection, SelectionError
from mage.models.checkpoint import LanguageModel
from mage.view import View
from tests.baselines.matrix import LENGTHS, generate, matrix, selecting
from tests.conftest import prompt


@selecting
@pytest.mark.parametrize("budget", [4, 11, 0.5])
def test_indices_are_valid_unique_and_within_the_budget(
    model: LanguageModel, method: Method, budget: int | float
) -> None:
    seen = 0
    together: Counter[tuple[int, int, int]] = Counter()  # entries of all layers, by block, step and row

    def check(view: View, indices: Tensor | None) -> None:
        nonlocal seen
        if indices is None:
            return
        seen += 1
        assert indices.shape[1] in (view.num_kv_heads, view.queries.shape[1])
        for row, length in enumerate(view.lengths):
            # Entries after compression are outside SnapKV's budget; everything else counts.
            counted = view.request.prefilled[row] if isinstance(method, SnapKV) else length
            allowed = min(Budget(budget).resolve(length), counted)
            if method.across_layers:
                key = (view.forward.block, view.forward.step, row)
                together[key] += int((indices[row] >= 0).sum(-1).max())
                assert together[key] <= 3 * allowed, "more than the budget of the three layers"
                allowed = length
            for head in indices[row].tolist():
                chosen = [index for index in head if index >= 0]
                assert len(set(chosen)) == len(chosen), "an entry twice"
                assert all(index < length for index in chosen), "an entry beyond the prefix"
                assert sum(index < counted for index in chosen) <= allowed, "more than the budget"

    generate(model, method, budget, LENGTHS, check)
    assert seen > 0, "the method never attended sparsely: the test shows nothing"


@selecting
def test_rows_within_the_budget_are_exactly_dense(model: LanguageModel, method: Method) -> None:
    """Two rows with a short prefix, in a batch with one that is really sparse."""
    dense = generate(model, Dense(), 1, LENGTHS)
    for ours, reference, length in zip(generate(model, method, 66, LENGTHS), dense, LENGTHS):
        if length < 50:  # the whole answer stays within the budget
            assert ours.tokens == reference.tokens
            assert ours.trace.density == 1.0 and ours.trace.sparse_blocks == 0
        elif length == 75:
            assert ours.trace.sparse_blocks > 0
    for budget in (1.0, 200):
        for ours, reference in zip(generate(model, method, budget, LENGTHS), dense):
            assert ours.tokens == reference.tokens and ours.trace.density == 1.0


@matrix
def test_batch_rows_are_independent(model: LanguageModel, method: Method) -> None:
    for row, length in zip(generate(model, method, 8, LENGTHS), LENGTHS):
        alone = generate(model, method, 8, [length])[0]
        assert row.tokens == alone.tokens
        assert row.trace.forwards == alone.trace.forwards
        assert row.trace.density == pytest.approx(alone.trace.density)
        assert row.trace.tokens_decided == alone.trace.tokens_decided


@matrix
def test_a_second_run_is_the_same(model: LanguageModel, method: Method) -> None:
    first, second = (generate(model, method, 8, [75])[0] for _ in range(2))
    assert first.tokens == second.tokens and first.trace.density == second.trace.density


def test_sparse_means_less_than_everything(model: LanguageModel) -> None:
    """SnapKV keeps what follows its window: here all of the prefix, although the budget is smaller."""
    engine = Engine(model, SnapKV(window=8), Static())
    prefix = engine.prefill([prompt(72)], [8])
    trace = engine.generate(prefix, Budget(70), question_starts=[64])[0].trace
    assert trace.sparse_blocks == 0 and trace.tokens_decided["sparse"] == 0


class FirstThree(Random):
    """A method without a budget that selects for itself: three entries."""

    uses_budget = False

    def select(self, view: View) -> Selection:
        return Selection(torch.arange(3).expand(view.keys.shape[0], view.num_kv_heads, -1))


def test_a_method_may_choose_its_own_size(model: LanguageModel) -> None:
    trace = generate(model, FirstThree(), 1, [72])[0].trace
    assert trace.sparse_blocks > 0 and trace.blocks[0].reads == 3 * (4 * 3 + 72)


@pytest.mark.parametrize(
    ("indices", "words"),
    [
        (torch.arange(9), "Broken selected 9 entries under a budget of 8"),
        (torch.zeros(4, dtype=torch.long), "an index twice"),
        (torch.tensor([0, 72]), r"outside the prefix of \[72\]"),
        (torch.tensor([-2, 3]), "outside the prefix"),
        (torch.tensor([3, -1, 5]), "an index behind the end of its set"),
        (torch.zeros(1, 1, 1, 1, dtype=torch.long), "indices of shape"),
    ],
)
def test_a_method_that_breaks_the_contract_is_stopped(model: LanguageModel, indices: Tensor, words: str) -> None:
    class Broken(Random):
        def select(self, view: View) -> Selection:
            return Selection(indices if indices.dim() == 4 else indices.expand(1, view.num_kv_heads, -1))

    with pytest.raises(SelectionError, match=words):
        generate(model, Broken(), 8, [72])


def test_layers_that_take_more_than_their_average_are_stopped(model: LanguageModel) -> None:
    class Greedy(MageV1):
        def select_layers(self, views: Sequence[View]) -> list[Selection]:
            return [Selection(torch.arange(size).expand(1, 2, -1)) for size in (10, 10, 5)]

    with pytest.raises(SelectionError, match=r"Greedy selected 25 entries over 3 layers .* 24 \(layers 0 to 2\)"):
        generate(model, Greedy(dense_layers=0), 8, [72])


def test_a_set_is_not_carried_into_the_next_block(model: LanguageModel) -> None:
    """Blocks done in their exact first step commit with the set of that step, never with an older one."""
    sets: list[Tensor] = []
    original = Mage.select

    class Recorded(Mage):
        def select(self, view: View) -> Selection:
            chosen = original(self, view)
            sets.append(chosen.indices)
            return chosen

    engine = Engine(model, Recorded(dense_layers=0, commit="sparse"), Static(tokens_per_step=8))
    trace = engine.generate(engine.prefill([prompt(72, seed=1)], [24]), Budget(8))[0].trace
    assert trace.forwards == {"exact": 3, "fused": 0, "sparse": 0, "commit": 2} and len(sets) == 3 * len(trace.blocks)
    assert [block.reads for block in trace.blocks[:2]] == [3 * (length + length / 2 + 8) for length in (72, 80)]


@selecting
def test_dense_layers_attend_to_everything(model: LanguageModel, method: Method) -> None:
    sets: dict[int, list[Tensor | None]] = {}

    def collect(view: View, indices: Tensor | None) -> None:
        sets.setdefault(view.layer, []).append(indices)

    generate(model, replace(method, dense_layers=1), 8, [75], collect)
    assert all(indices is None for indices in sets[0])
    assert any(indices is not None for indices in sets[2])


@matrix
def test_all_layers_dense_is_dense(model: LanguageModel, method: Method) -> None:
    ours = generate(model, replace(method, dense_layers=3), 8, [75])[0]
    assert ours.tokens == generate(model, Dense(), 1, [75])[0].tokens
    assert ours.trace.sparse_blocks == 0


@matrix
def test_shadow_selection_leaves_the_dense_path(model: LanguageModel, method: Method) -> None:
    ours = generate(model, method, 8, [75], shadow=True)[0]
    assert ours.tokens == generate(model, Dense(), 1, [75])[0].tokens


@matrix
def test_options_out_of_range_are_refused(model: LanguageModel, method: Method) -> None:
    with pytest.raises(UserError, match="dense_layers=-1"):
        replace(method, dense_layers=-1)
    with pytest.raises(UserError, match=r"commit=never .*Allowed: dense, sparse"):
        replace(method, commit="never")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Mage(select_step=0), "select_step=0"),
        (lambda: Mage(reduction="median"), "reduction=median"),
        (lambda: Quest(page_size=0), "page_size=0"),
        (lambda: Quest(share="layer"), "share=layer"),
        (lambda: SnapKV(window=0), "window=0"),
        (lambda: SnapKV(window=129), r"window=129 .*1 to 128"),
        (lambda: Mage(commit="sparse", select_step=2), "commit=sparse needs"),
        (lambda: SnapKV(kernel=4), "kernel=4"),
        (lambda: StreamingLLM(sinks=-1), "sinks=-1"),
        (lambda: Oracle(reduction="sum"), "reduction=sum"),
        (lambda: Quest().check_budget(Budget(8)), "budget of 8 tokens is less than one page"),
        (lambda: Mage(page_size=16).check_budget(Budget(8)), "budget of 8 tokens is less than one page"),
        (lambda: Budget(0), "budget=0"),
        (lambda: Budget(1.5), r"budget=1\.5"),
        (lambda: Budget(True), "budget=True"),
    ],
)
def test_values_out_of_range(build: Callable[[], object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        build()


def test_a_method_with_a_budget_needs_one(model: LanguageModel) -> None:
    engine = Engine(model, Mage(), Static())
    with pytest.raises(UserError, match="Mage needs a budget"):
        engine.generate(engine.prefill([prompt(20)], [4]))
