"""Models whose finished tokens are causal: blocks open at the prompt's end, whatever its length."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from baselines.dense import Dense
from mage.budget import Budget
from mage.errors import UserError
from mage.generation.decoding import Decoding, Static, Threshold
from mage.generation.editing import Edit
from mage.generation.engine import Engine
from mage.generation.session import Generation
from mage.mage import Mage
from mage.models.checkpoint import LanguageModel
from mage.models.diffusion import DiffusionSpec
from tests.conftest import prompt
from tests.mage import naive

BLOCK = 8
POLICIES: list[tuple[Decoding, naive.Rule]] = [
    (Static(tokens_per_step=2), naive.fill(naive.static(lambda step: 2))),
    (Threshold(threshold=0.2, sub_block=4), naive.fill(naive.threshold(0.2), 4)),
    (Edit(threshold=0.2, editing_threshold=0.3), naive.edit(0.2, 0.3, 1, 16)),
]


def causal(alignment: str = "same", anchored: bool = True) -> DiffusionSpec:
    return DiffusionSpec(BLOCK, 1, (2,), alignment, "causal", anchored)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def nemotron(model: LanguageModel) -> LanguageModel:
    """Same-position logits in the block, next-token logits in causal forwards, an anchor in slot 0."""
    return replace(model, body=naive.tiny_body("nemotron_labs_diffusion"), spec=causal())


def generate(model: LanguageModel, tokens: list[int], new: int, decoding: Decoding) -> Generation:
    engine = Engine(model, Dense(), decoding)
    return engine.generate(engine.prefill([tokens], [new]))[0]


@pytest.mark.parametrize("length", [1, 7, 8, 9, 30])
@pytest.mark.parametrize(("alignment", "anchored"), [("same", True), ("same", False), ("shifted", False)])
def test_generation_equals_full_forwards(nemotron: LanguageModel, length: int, alignment: str, anchored: bool) -> None:
    chosen = replace(nemotron, spec=causal(alignment, anchored))
    tokens = prompt(length, seed=length)
    for decoding, rule in POLICIES:
        assert generate(chosen, tokens, 21, decoding).tokens == naive.generate(chosen, tokens, 21, rule), decoding


def test_an_anchored_block_denoises_all_slots_but_the_first(nemotron: LanguageModel) -> None:
    trace = generate(nemotron, prompt(13, seed=2), 3 * BLOCK, Static()).trace
    assert [block.tokens_decided["seed"] for block in trace.blocks] == [1, 1, 1]
    assert [block.forwards["exact"] for block in trace.blocks] == [BLOCK - 1] * 3
    assert trace.forwards["commit"] == 2


def test_the_anchor_is_the_next_token_of_a_causal_forward(nemotron: LanguageModel) -> None:
    tokens = prompt(13, seed=2)
    written = generate(nemotron, tokens, 2 * BLOCK, Static()).tokens
    for start in (13, 13 + BLOCK):
        sequence = (tokens + written)[:start]
        expected = naive.best(naive.forward(nemotron, sequence, start)[-1], nemotron.spec.mask_id)
        assert (tokens + written)[start] == expected


@pytest.mark.parametrize("chunk", [1, 5, 8, 100])
def test_any_chunk_gives_the_same_prefill(nemotron: LanguageModel, chunk: int) -> None:
    prompts = [prompt(37, 1), prompt(6, 2)]
    whole = Engine(nemotron, Dense(), Static()).prefill(prompts, [8, 8])
    parts = Engine(nemotron, Dense(), Static(), prefill_chunk=chunk).prefill(prompts, [8, 8])
    assert whole.lengths == parts.lengths == [37, 6], "the whole prompt is prefilled"
    for row, length in enumerate(whole.lengths):
        torch.testing.assert_close(
            whole.cache.keys[:, row, :, :length], parts.cache.keys[:, row, :, :length], atol=5e-5, rtol=1e-4
        )
    torch.testing.assert_close(whole.windows, parts.windows, atol=5e-5, rtol=1e-4)
    torch.testing.assert_close(whole.last_logits, parts.last_logits, atol=1e-4, rtol=1e-4)


def test_a_chunk_below_one_is_refused(nemotron: LanguageModel) -> None:
    with pytest.raises(UserError, match=r"prefill_chunk=0 .* an integer >= 1"):
        Engine(nemotron, Dense(), Static(), prefill_chunk=0).prefill([prompt(9)], [8])


@pytest.mark.parametrize("decoding", [Static(tokens_per_step=3), Edit(threshold=0.2)], ids=["static", "edit"])
def test_a_commit_writes_what_a_causal_prefill_of_the_answer_writes(
    nemotron: LanguageModel, decoding: Decoding
) -> None:
    tokens = prompt(13, seed=3)
    engine = Engine(nemotron, Dense(), decoding)
    prefix = engine.prefill([tokens], [3 * BLOCK])
    result = engine.generate(prefix)[0]
    committed = 13 + 2 * BLOCK
    assert len(result.tokens) == 3 * BLOCK and result.trace.forwards["commit"] == 2
    fresh = engine.prefill([(tokens + result.tokens)[:committed]], [BLOCK]).cache
    for now, then in ((prefix.cache.keys, fresh.keys), (prefix.cache.values, fresh.values)):
        torch.testing.assert_close(now[:, :, :, :committed], then[:, :, :, :committed], atol=1e-5, rtol=1e-5)


def test_ragged_rows_equal_single_runs(nemotron: LanguageModel) -> None:
    prompts, limits = [prompt(n, n) for n in (31, 3, 24)], [20, 7, 13]
    engine = Engine(nemotron, Mage(dense_layers=1), Static(tokens_per_step=2))
    together = engine.generate(engine.prefill(prompts, limits), Budget(9))
    for tokens, new, result in zip(prompts, limits, together):
        alone = engine.generate(engine.prefill([tokens], [new]), Budget(9))[0]
        assert alone.tokens == result.tokens and alone.trace.forwards == result.trace.forwards
    assert together[0].trace.forwards["sparse"] > 0


def test_the_last_block_ends_inside_the_positions(nemotron: LanguageModel) -> None:
    fits = nemotron.max_positions - BLOCK
    for length in (fits, fits - 1):
        assert len(generate(nemotron, prompt(length), 5, Static(tokens_per_step=8)).tokens) == 5
    with pytest.raises(UserError, match=f"{fits + 1} tokens and 5 new tokens in blocks of 8 do not fit"):
        generate(nemotron, prompt(fits + 1), 5, Static())


def test_an_anchor_needs_logits_of_the_next_token() -> None:
    with pytest.raises(UserError, match=r"anchored=true .* model\.alignment=shifted, model\.prefix_attention=causal"):
        DiffusionSpec(BLOCK, 1, (2,), anchored=True)
