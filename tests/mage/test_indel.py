"""Insertions and deletions in open blocks, by hand and in whole generations."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from baselines.dense import Dense
from mage.errors import UserError
from mage.generation.canvas import DECIDED, Canvas, Stops
from mage.generation.engine import Engine
from mage.generation.indel import Indel
from mage.generation.indel_row import Guess, IndelRow
from mage.models.checkpoint import LanguageModel
from mage.models.diffusion import DiffusionSpec
from tests.conftest import prompt, spec
from tests.mage import naive

MASK, DELETE, SPLIT = 1, 10, 11
Proposed = tuple[int, float]


def row(tokens: list[int], frozen: int = 0, max_post_steps: int = 16) -> IndelRow:
    return IndelRow(tokens, frozen, MASK, DELETE, SPLIT, 0.5, 0.0, max_post_steps)


def sees(state: IndelRow, *proposed: Proposed, plain: int = 9) -> list[int]:
    """One forward that proposes a token and its confidence for each slot; `plain` is the next best everywhere."""
    guesses = []
    for token, confidence in proposed:
        unmasked = plain if token == MASK else token
        guesses.append(
            Guess(token, unmasked, plain if token in (MASK, DELETE, SPLIT) else token, confidence, confidence)
        )
    return state.step(guesses, lambda slot, count: [proposed[slot][0], plain, *range(20, 20 + count)])


def test_delete_moves_what_follows_to_the_left() -> None:
    state = row([3, 4, 5, 6], frozen=1)
    origins = sees(state, (3, 0.9), (DELETE, 0.9), (5, 0.9), (6, 0.9))
    assert state.tokens == [3, 5, 6, MASK] and origins == [0, 2, 3, -1]
    assert not state.finished, "the new [MASK] has to be filled"
    sees(state, (3, 0.9), (5, 0.9), (6, 0.9), (7, 0.1))
    assert state.tokens == [3, 5, 6, 7]
    sees(state, (3, 0.9), (5, 0.9), (6, 0.9), (7, 0.1))
    assert state.finished and state.tokens == [3, 5, 6, 7]


def test_split_puts_a_mask_before_the_old_token_and_cuts_the_block() -> None:
    state = row([3, 4, 5, 6], frozen=1)
    origins = sees(state, (3, 0.9), (4, 0.9), (SPLIT, 0.9), (7, 0.9))
    assert state.tokens == [3, 4, MASK, 5] and origins == [0, 1, -1, 2]


def test_the_prompt_is_never_edited() -> None:
    state = row([3, MASK, 4, MASK], frozen=2)
    sees(state, (DELETE, 0.9), (SPLIT, 0.9), (4, 0.9), (6, 0.9))
    assert state.tokens == [3, MASK, 4, 6]


def test_delete_and_split_in_one_forward() -> None:
    state = row([3, 4, 5, 6])
    origins = sees(state, (SPLIT, 0.9), (DELETE, 0.9), (DELETE, 0.9), (8, 0.9))
    assert state.tokens == [MASK, 3, 8, MASK] and origins == [-1, 0, -1, -1]


def test_while_original_masks_remain_one_more_is_filled_than_was_put_in() -> None:
    state = row([MASK, MASK, MASK, 4])
    sees(state, (5, 0.1), (6, 0.2), (7, 0.3), (DELETE, 0.9))
    assert state.tokens == [MASK, MASK, 7, MASK], "no mask was put in before this forward: one original is filled"
    sees(state, (5, 0.2), (6, 0.1), (7, 0.9), (8, 0.3))
    assert state.tokens == [5, MASK, 7, 8], "one was put in: two are filled"


def test_a_mask_proposed_for_an_original_mask_is_replaced() -> None:
    state = row([MASK, 4])
    sees(state, (MASK, 0.9), (4, 0.9))
    assert state.tokens == [9, 4]


def test_a_mask_that_returns_to_an_original_slot_is_original_again() -> None:
    state = row([MASK, MASK])
    sees(state, (5, 0.9), (6, 0.1))
    sees(state, (MASK, 0.9), (6, 0.9))
    assert state.tokens == [MASK, 6] and state.post_steps == 0
    sees(state, (MASK, 0.9), (6, 0.9))
    assert state.tokens == [9, 6] and state.post_steps == 0


def test_the_budget_is_cumulative_and_ends_with_a_clean_up() -> None:
    state = row([MASK, 4, 5], max_post_steps=2)
    sees(state, (6, 0.9), (4, 0.9), (5, 0.9))
    sees(state, (6, 0.9), (SPLIT, 0.9), (5, 0.9))
    assert state.tokens == [6, MASK, 4] and not state.finished
    sees(state, (DELETE, 0.9), (MASK, 0.9), (SPLIT, 0.9))
    assert state.finished and state.tokens == [9, 9, 9], "the last forward writes plain tokens only"


def test_without_a_budget_the_forward_that_fills_the_last_mask_cleans_up() -> None:
    state = row([MASK, 4], max_post_steps=0)
    sees(state, (6, 0.9), (SPLIT, 0.9))
    assert state.finished and state.tokens == [6, 9]


def test_a_block_seen_before_gets_an_untried_token_where_the_change_is_least_sure() -> None:
    state = row([3, 4])
    sees(state, (5, 0.9), (6, 0.8))
    sees(state, (3, 0.9), (4, 0.8))
    assert state.tokens == [3, 4]
    sees(state, (5, 0.9), (6, 0.8))
    assert state.tokens == [5, 9], "6 was written to slot 1 before: the next best is taken"


def test_who_decided_a_token_moves_with_it() -> None:
    spec = DiffusionSpec(4, MASK, (2,), delete_id=DELETE, split_id=SPLIT)
    block = Canvas.open(spec, Stops((2,), [[]], torch.device("cpu")), [[3]], [4], torch.zeros(1, 12))
    writing = Indel(editing_threshold=0.5).open(block)
    for proposed, kind in (({2: 5}, "exact"), ({1: 4, 3: 6}, "sparse"), ({1: DELETE, 2: 5, 3: 6}, "exact")):
        logits = torch.zeros(1, 4, 12)
        for slot, token in proposed.items():
            logits[0, slot, token] = 9.0
        block.decide(writing.step(logits), [kind])
    assert block.tokens.tolist() == [[3, 5, 6, MASK]]
    assert [DECIDED[kind] for kind in block.decided[0, 1:3].tolist()] == ["exact", "sparse"]


@pytest.fixture(scope="module")
def indel_model(model: LanguageModel) -> LanguageModel:
    body = naive.tiny_body("qwen3", seed=1)
    body.lm_head.weight[[DELETE, SPLIT]] = 2.0 * body.lm_head.weight[[20, 21]]  # they are proposed now and then
    return replace(model, body=body, spec=replace(spec(), delete_id=DELETE, split_id=SPLIT))


def ranked(logits: torch.Tensor, slot: int, count: int) -> list[int]:
    return logits[slot].topk(count).indices.tolist()


def by_row(policy: Indel, used: list[int]) -> naive.Rule:
    """The rule of `IndelRow` on full forwards; notes which control tokens were proposed for slots of the answer."""

    def rule(block: naive.Block, predict: naive.Predict) -> None:
        state = IndelRow(
            block.tokens,
            block.fixed,
            MASK,
            DELETE,
            SPLIT,
            policy.threshold,
            policy.editing_threshold,
            policy.max_post_steps,
        )
        while not state.finished:
            logits = predict(state.tokens)
            probabilities = logits.softmax(-1)
            guesses = []
            for slot in range(len(state.tokens)):
                token, unmasked = naive.best(logits[slot]), naive.best(logits[slot], MASK)
                plain = naive.best(logits[slot], MASK, DELETE, SPLIT)
                here = probabilities[slot]
                guesses.append(Guess(token, unmasked, plain, float(here[token]), float(here[unmasked])))
                used.extend([token] if slot >= block.fixed else [])
            state.step(guesses, partial(ranked, logits))
        block.tokens = state.tokens

    return rule


@pytest.mark.parametrize("length", [1, 8, 13])
@pytest.mark.parametrize("policy", [Indel(), Indel(threshold=0.2, editing_threshold=0.2, max_post_steps=4)], ids=str)
def test_generation_equals_full_forwards(indel_model: LanguageModel, length: int, policy: Indel) -> None:
    tokens, used = prompt(length, seed=length), list[int]()
    expected = naive.generate(indel_model, tokens, 21, by_row(policy, used))
    assert {DELETE, SPLIT} <= set(used), "the test needs a model that edits"
    engine = Engine(indel_model, Dense(), policy)
    prefix = engine.prefill([tokens], [21])
    result = engine.generate(prefix)[0]
    assert result.tokens == expected and not set(expected) & {MASK, DELETE, SPLIT}
    assert sum(result.trace.tokens_decided.values()) == len(expected) + result.stopped
    finished = prefix.cache.lengths[0]
    assert finished >= 8 and finished <= len(tokens) + len(expected)
    fresh = engine.prefill([(tokens + result.tokens)[:finished]], [8]).cache.keys[:, :, :, :finished]
    torch.testing.assert_close(prefix.cache.keys[:, :, :, :finished], fresh, atol=1e-5, rtol=1e-5)


def test_a_model_without_the_control_tokens_is_refused(model: LanguageModel) -> None:
    with pytest.raises(UserError, match=r"decoding=indel needs model\.delete_id, which this model does not have"):
        Engine(model, Dense(), Indel())
    with pytest.raises(UserError, match="mask_id, delete_id and split_id must differ"):
        DiffusionSpec(8, MASK, (2,), delete_id=MASK, split_id=SPLIT)


def test_sub_blocks_are_refused() -> None:
    with pytest.raises(UserError, match=r"decoding\.sub_block=8: indel moves tokens"):
        Indel(sub_block=8)
