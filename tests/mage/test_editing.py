"""Edits of open blocks: what they write, when they end, and when a commit forward is spared."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from baselines.dense import Dense
from baselines.oracle import Oracle
from baselines.quest import Quest
from baselines.snapkv import SnapKV
from baselines.sparse_d import SparseD
from baselines.tidal_decode import TidalDecode
from mage.budget import Budget
from mage.errors import UserError
from mage.generation.canvas import Canvas, Stops
from mage.generation.editing import Edit
from mage.generation.engine import Engine
from mage.mage import Mage
from mage.mage_v1 import MageV1
from mage.method import Method
from mage.models.checkpoint import LanguageModel
from mage.models.diffusion import DiffusionSpec
from tests.conftest import prompt

MASK, VOCAB = 1, 10


def canvas(tail: list[int], size: int, room: int | None = None) -> Canvas:
    """A first block of one row that opens with the prompt's `tail`."""
    spec, stops = DiffusionSpec(size, MASK, (2,)), Stops((2,), [[]], torch.device("cpu"))
    return Canvas.open(spec, stops, [tail], [size if room is None else room], torch.zeros(1, VOCAB))


def says(*slots: tuple[int, float]) -> Tensor:
    """Logits `[1, block, vocab]` that propose a token with a probability in each slot."""
    logits = torch.full((1, len(slots), VOCAB), float("-inf"))
    for slot, (token, probability) in enumerate(slots):
        logits[0, slot, 3:] = torch.tensor((1 - probability) / (VOCAB - 4)).log()
        logits[0, slot, token] = torch.tensor(probability).log()
    return logits


def write(edit: Edit, block: Canvas, forwards: list[Tensor]) -> Iterator[list[int]]:
    """Feed forwards to a block; yield its tokens after each, until it needs no more."""
    writing = edit.open(block)
    for logits in forwards:
        if not bool(writing.active().any()):
            return
        writing.step(logits)
        yield block.tokens[0].tolist()
    assert not bool(writing.active().any()), "the script is too short"


def test_masks_are_filled_and_filled_slots_overwritten_in_one_forward() -> None:
    block = canvas([5, 6], 4)
    script = [
        says((9, 0.99), (9, 0.99), (3, 0.97), (4, 0.5)),  # the prompt stays, slot 3 is not sure enough
        says((9, 0.99), (9, 0.99), (7, 0.95), (4, 0.5)),  # slot 2 is overwritten while slot 3 is filled as the best
        says((9, 0.99), (9, 0.99), (8, 0.85), (4, 0.5)),  # not sure enough to overwrite: nothing changes, the end
    ]
    assert list(write(Edit(), block, [*script, script[0]])) == [[5, 6, 3, MASK], [5, 6, 7, 4], [5, 6, 7, 4]]


def test_num_to_transfer_is_a_minimum() -> None:
    script = [says((3, 0.5), (4, 0.6), (5, 0.4))] * 3
    assert next(write(Edit(num_to_transfer=2), canvas([], 3), script)) == [3, 4, MASK]


def test_forwards_without_a_mask_are_limited() -> None:
    flip, flop = says((3, 0.99), (4, 0.99)), says((4, 0.99), (3, 0.99))
    script = [flip, flop] * 4
    assert len(list(write(Edit(max_post_steps=3), canvas([], 2), script))) == 1 + 3
    assert len(list(write(Edit(max_post_steps=0), canvas([], 2), script))) == 1


def test_only_slots_before_the_limit_are_written() -> None:
    script = [says((3, 0.99), (4, 0.99), (5, 0.99))] * 2
    assert list(write(Edit(), canvas([], 3, room=2), script))[-1] == [3, 4, MASK]


def test_masks_behind_a_stop_token_are_filled_as_it_may_go() -> None:
    script = [
        says((2, 0.99), (3, 0.5), (4, 0.4)),
        says((2, 0.99), (3, 0.5), (4, 0.4)),
        says((7, 0.99), (3, 0.5), (4, 0.4)),
        says((7, 0.99), (3, 0.5), (4, 0.4)),
    ]
    assert list(write(Edit(), canvas([], 3), script))[-1] == [7, 3, 4]


def test_a_sub_block_holds_back_masks_but_not_edits() -> None:
    script = [says((3, 0.99), (4, 0.99), (5, 0.99), (6, 0.99)), says((8, 0.99), (4, 0.99), (5, 0.99), (6, 0.99))]
    written = list(write(Edit(sub_block=2), canvas([], 4), [*script, script[1]]))
    assert written == [[3, 4, MASK, MASK], [8, 4, 5, 6], [8, 4, 5, 6]]


def test_a_commit_is_spared_when_the_last_exact_forward_changed_nothing(model: LanguageModel) -> None:
    engine = Engine(model, Dense(), Edit(threshold=0.2, editing_threshold=0.3))
    tokens = prompt(9, seed=9)
    prefix = engine.prefill([tokens], [23])
    result = engine.generate(prefix)[0]
    assert len(result.trace.blocks) == 3 and result.trace.forwards["commit"] == 0
    fresh = engine.prefill([(tokens + result.tokens)[:24]], [8]).cache
    for now, then in ((prefix.cache.keys, fresh.keys), (prefix.cache.values, fresh.values)):
        torch.testing.assert_close(now[:, :, :, :24], then[:, :, :, :24], atol=1e-5, rtol=1e-5)


def test_a_commit_is_needed_when_the_last_forward_still_edited(model: LanguageModel) -> None:
    engine = Engine(model, Dense(), Edit(threshold=0.2, editing_threshold=0.0, max_post_steps=1))
    result = engine.generate(engine.prefill([prompt(9, seed=9)], [23]))[0]
    assert result.trace.forwards["commit"] == 2


def test_a_commit_is_needed_when_the_last_forward_was_sparse(model: LanguageModel) -> None:
    engine = Engine(model, Oracle(dense_layers=1), Edit(threshold=0.2, editing_threshold=0.9))
    dense = Engine(model, Dense(), engine.decoding)
    prefix = engine.prefill([prompt(40, seed=9)], [23])
    sparse, exact = engine.generate(prefix, Budget(8))[0].trace, dense.generate(prefix)[0].trace
    assert sparse.forwards["exact"] == 0 and sparse.forwards["commit"] == len(sparse.blocks) - 1 == 2
    assert exact.forwards["sparse"] == 0 and exact.forwards["commit"] == 0


@pytest.mark.parametrize(
    "method",
    [
        Mage(dense_layers=1),
        Mage(dense_layers=1, select_step=2, refresh_every=5),
        MageV1(dense_layers=1),
        Quest(dense_layers=1, page_size=4),
        SnapKV(dense_layers=1),
        SparseD(dense_layers=1, page_size=4),
        TidalDecode(dense_layers=0, correction_layer=1),
    ],
    ids=lambda m: type(m).__name__,
)
def test_methods_serve_blocks_of_more_steps_than_slots(model: LanguageModel, method: Method) -> None:
    engine = Engine(model, method, Edit(threshold=0.2, editing_threshold=0.0))
    trace = engine.generate(engine.prefill([prompt(40, seed=9)], [16]), Budget(8))[0].trace
    forwards = [block.forwards["exact"] + block.forwards["sparse"] for block in trace.blocks]
    assert max(forwards) > 8 and trace.forwards["sparse"] > 0 and trace.density < 1


def test_an_edited_slot_belongs_to_the_forward_that_edited_it_last() -> None:
    block = canvas([], 2)
    writing = Edit().open(block)
    for logits, kind in ((says((3, 0.99), (4, 0.99)), "exact"), (says((5, 0.99), (4, 0.99)), "sparse")):
        block.decide(writing.step(logits), [kind])
    assert block.decided.tolist() == [[2, 1]]


@pytest.mark.parametrize("budget", [0, 3, 16])
def test_batch_rows_equal_single_runs(model: LanguageModel, budget: int) -> None:
    prompts, limits = [prompt(n, n) for n in (50, 3, 24, 33)], [20, 7, 13, 20]
    engine = Engine(model, Dense(), Edit(threshold=0.2, editing_threshold=0.3, max_post_steps=budget))
    together = engine.generate(engine.prefill(prompts, limits))
    for tokens, new, result in zip(prompts, limits, together):
        alone = engine.generate(engine.prefill([tokens], [new]))[0]
        assert alone.tokens == result.tokens
        assert alone.trace.forwards == result.trace.forwards


@pytest.mark.parametrize(
    "method",
    [
        SparseD(dense_layers=1, page_size=4, dense_steps=6),
        Mage(dense_layers=1, select_step=4),
        Mage(dense_layers=1, refresh_every=3),
    ],
    ids=["sparse_d", "mage-step-4", "mage-refresh"],
)
def test_a_settled_row_stays_settled_while_others_go_on_sparsely(model: LanguageModel, method: Method) -> None:
    prompts, limits = [prompt(n, n) for n in (50, 23, 24, 33)], [20, 21, 24, 20]
    engine = Engine(model, method, Edit(threshold=0.2, editing_threshold=0.3))
    prefix = engine.prefill(prompts, limits)
    spared = 0
    for row, result in enumerate(engine.generate(prefix, Budget(8))):
        own = engine.prefill([prompts[row]], [limits[row]])
        alone = engine.generate(own, Budget(8))[0]
        assert alone.tokens == result.tokens
        for ours, theirs in zip(alone.trace.blocks, result.trace.blocks, strict=True):
            assert ours.forwards == theirs.forwards and ours.reads == theirs.reads
        spared += alone.trace.forwards["commit"] < len(alone.trace.blocks) - 1
        end = own.lengths[0] + 8 * (len(alone.trace.blocks) - 1)
        for kept, shared in ((own.cache.keys, prefix.cache.keys), (own.cache.values, prefix.cache.values)):
            torch.testing.assert_close(kept[:, 0, :, :end], shared[:, row, :, :end], atol=1e-4, rtol=1e-4)
    assert spared, "the test needs a row that settles"


def test_options_out_of_range() -> None:
    with pytest.raises(UserError, match=r"editing_threshold=1\.2"):
        Edit(editing_threshold=1.2)
    with pytest.raises(UserError, match="max_post_steps=-1"):
        Edit(max_post_steps=-1)
    with pytest.raises(UserError, match="num_to_transfer=0"):
        Edit(num_to_transfer=0)
