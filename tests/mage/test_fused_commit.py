"""A commit in one forward with the first step of the next block writes what two forwards write."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from baselines.dense import Dense
from mage.attention.block import BlockAttention
from mage.attention.implementation import operations
from mage.budget import Budget
from mage.errors import UserError
from mage.generation.decoding import Decoding, Sequential, Static, Threshold
from mage.generation.editing import Edit
from mage.generation.engine import Engine
from mage.mage import Mage
from mage.method import SELECT_AFTER, Plan, Selection
from mage.models.checkpoint import LanguageModel
from mage.models.diffusion import DiffusionSpec
from mage.view import Forward, Request, View
from tests.conftest import prompt
from tests.mage import naive
from tests.mage.fused import BLOCK, FUSED, GROUPS, NOT_FUSED, body_of, both, check_equal
from tests.mage.recordings import METHODS, told

DECODINGS: dict[str, Decoding] = {
    "static": Static(tokens_per_step=2),
    "static-whole": Static(tokens_per_step=BLOCK),
    "threshold": Threshold(threshold=0.3),
    "sub-blocks": Threshold(threshold=0.2, sub_block=4),
}


@pytest.mark.parametrize("name", [*FUSED, *NOT_FUSED])
@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize("lengths", [[75], [75, 64, 3, 48]], ids=["one", "uneven"])
def test_it_writes_what_two_forwards_write(model: LanguageModel, name: str, decoding: str, lengths: list[int]) -> None:
    method = (FUSED | NOT_FUSED)[name]
    limits = [30, 12, 40, 1][: len(lengths)]  # rows end at different blocks
    if name in NOT_FUSED:
        lengths = [max(n, 40) for n in lengths]  # what a budget covers would be exact
    plain, fused = both(model, method, DECODINGS[decoding], lengths, limits)
    assert any(len(g.trace.blocks) > 1 for g in plain[1])  # a stop token may come early
    check_equal(plain, fused, always=name in FUSED)


@pytest.mark.parametrize("family", naive.FAMILIES)
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("seed", [1, 2])
def test_random_bodies_of_every_family(model: LanguageModel, family: str, group: str, seed: int) -> None:
    chosen = body_of(model, family, seed, **GROUPS[group])
    for method in (Dense(), Mage(dense_layers=1)):
        plain, fused = both(chosen, method, Static(tokens_per_step=3), [50, 21], [26, 40])
        check_equal(plain, fused, always=True)


def test_experts_that_are_chosen_by_block(model: LanguageModel) -> None:
    chosen = body_of(model, "llada2_moe", expert_capacity=5, block_size=BLOCK)
    check_equal(*both(chosen, Mage(dense_layers=1), Static(tokens_per_step=3), [50, 21], [26, 40]), always=True)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 15, 16])
@pytest.mark.parametrize("name", ["dense", "mage", "flash_block"])
def test_prompts_about_as_long_as_a_block(model: LanguageModel, length: int, name: str) -> None:
    """The first block may have no prefix; the first fused one is then a whole forward without one."""
    plain, fused = both(model, FUSED[name], Static(tokens_per_step=2), [length, 30], [33, 33], budget=5)
    check_equal(plain, fused, always=True)


@pytest.mark.parametrize("decoding", [Static(tokens_per_step=2), Threshold(threshold=0.2), Sequential()], ids=str)
@pytest.mark.parametrize("length", [5, 24])
def test_it_equals_full_forwards(model: LanguageModel, decoding: Decoding, length: int) -> None:
    rules = {
        "Static": naive.static(lambda step: 2),
        "Threshold": naive.threshold(0.2),
        "Sequential": naive.sequential(1),
    }
    tokens = prompt(length, seed=length)
    engine = Engine(model, Dense(), decoding, fuse_commit=True)
    (result,) = engine.generate(engine.prefill([tokens], [37]))
    assert result.tokens == naive.generate(model, tokens, 37, naive.fill(rules[type(decoding).__name__]))
    assert result.trace.forwards["commit"] == 0


@pytest.mark.parametrize("name", ["quest", "mage-sparse-commit", "streaming_llm"])
def test_any_method_is_exact_where_its_budget_covers_the_prefix(model: LanguageModel, name: str) -> None:
    plain, fused = both(model, METHODS[name], Static(tokens_per_step=2), [20, 9], [26, 26], budget=100)
    check_equal(plain, fused, always=True)


def test_a_method_may_stop_fusing_where_its_budget_is_exceeded(model: LanguageModel) -> None:
    """40 entries: blocks open at 16, 24, ..., and the one that opens at 48 selects."""
    plain, fused = both(model, METHODS["quest"], Static(tokens_per_step=2), [16], [60], budget=40)
    assert fused[1][0].tokens == plain[1][0].tokens
    assert [block.forwards["fused"] for block in fused[1][0].trace.blocks] == [0, 1, 1, 1, 0, 0, 0, 0]
    assert [block.forwards["commit"] for block in fused[1][0].trace.blocks] == [0, 0, 0, 1, 1, 1, 1, 0]


def test_kernels_commit_with_the_first_step_too(model: LanguageModel) -> None:
    pytest.importorskip("triton")
    if torch.cuda.is_available():
        pytest.skip("the model is on the CPU, where kernels run in the interpreter alone")
    plain, fused = both(
        model, METHODS["mage"], Static(tokens_per_step=4), [21, 9], [20, 9], budget=5, attention="triton"
    )
    assert operations("triton", torch.device("cpu")).name == "triton"
    check_equal(plain, fused, always=True)


@pytest.mark.parametrize("decoding", ["static", "threshold"])
def test_steps_behind_the_end_of_a_block_are_no_commit(model: LanguageModel, decoding: str) -> None:
    pair = both(model, FUSED["mage"], DECODINGS[decoding], [75, 33], [30, 40], check_every=5)
    check_equal(*pair, always=True)


SPEC = DiffusionSpec(BLOCK, 1, (2,))
REFUSED = {
    "causal": (replace(SPEC, prefix_attention="causal"), Static(), r"model\.prefix_attention=causal"),
    "anchored": (replace(SPEC, alignment="shifted", anchored=True), Static(), r"model\.anchored=true"),
    "shifted": (replace(SPEC, alignment="shifted"), Static(), r"model\.alignment=shifted"),
    "edits": (SPEC, Edit(), "decoding that edits"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_fused_is_refused(model: LanguageModel, case: str) -> None:
    chosen, decoding, words = REFUSED[case]
    with pytest.raises(UserError, match=rf"^fuse_commit=true: [^\n]*{words}[^\n]* Allowed: false[^\n]*\.$"):
        Engine(replace(model, spec=chosen), Dense(), decoding, fuse_commit=True)
    Engine(replace(model, spec=chosen), Dense(), decoding)


def test_rows_that_are_done_are_left_alone(model: LanguageModel) -> None:
    """The answer of a row alone is its answer beside longer ones, its own blocks counted alone."""
    limits = [7, 40, 20]
    _, (_, together) = both(model, METHODS["mage"], Static(tokens_per_step=2), [40, 66, 25], limits)
    for length, limit, result in zip([40, 66, 25], limits, together, strict=True):
        _, (_, (alone,)) = both(model, METHODS["mage"], Static(tokens_per_step=2), [length], [limit])
        assert alone.tokens == result.tokens
        assert told([alone]) == told([result])
        assert alone.trace.forwards == result.trace.forwards


def test_a_prefix_can_be_decoded_from_again(model: LanguageModel) -> None:
    engine = Engine(model, METHODS["mage"], Static(tokens_per_step=2), fuse_commit=True)
    other = Engine(model, METHODS["mage"], Static(tokens_per_step=2))
    prefix = engine.prefill([prompt(50, 1), prompt(20, 2)], [30, 30])
    answers: list[list[list[int]]] = []
    before: Tensor = prefix.cache.keys[:, 0, :, :48].clone()
    for each in (engine, other, engine):
        answers.append([g.tokens for g in each.generate(prefix, Budget(9))])
    assert answers[0] == answers[1] == answers[2]
    assert torch.equal(prefix.cache.keys[:, 0, :, :48], before)


class SelectsInCommits(Mage):
    """Chooses sets of a finished block, too: what it would see in a fused forward is the next block."""

    lasting: ClassVar[bool] = True  # or nobody would attend to them

    def plan_step(self, forward: Forward) -> Plan:
        return SELECT_AFTER if forward.commit else super().plan_step(forward)


def test_a_commit_that_selects_is_a_forward_of_its_own(model: LanguageModel) -> None:
    seen: list[list[tuple[int, int, bool]]] = []

    class Watched(SelectsInCommits):
        def select(self, view: View) -> Selection:
            seen[-1].append((view.layer, view.forward.block, view.forward.commit))
            return super().select(view)

    answers = []
    for fuse_commit in (False, True):
        seen.append([])
        engine = Engine(
            model, Watched(dense_layers=1, commit="sparse"), Static(tokens_per_step=2), fuse_commit=fuse_commit
        )
        (answer,) = engine.generate(engine.prefill([prompt(75, 1)], [40]), Budget(9))
        answers.append(answer)
    assert answers[0].tokens == answers[1].tokens and len(answers[0].trace.blocks) > 1
    assert answers[1].trace.forwards == answers[0].trace.forwards
    assert seen[0] == seen[1] and any(commit for _, _, commit in seen[0])


def test_a_causal_forward_has_nothing_ahead_of_it(model: LanguageModel) -> None:
    engine = Engine(model, Dense(), Static())
    prefix = engine.prefill([prompt(16, 1)], [8])
    request = Request(BLOCK, [16], [16], prefix.windows, ["0"], 0)
    attention = BlockAttention(Dense(), prefix.cache, request, shadow=False, observer=None)
    with pytest.raises(ValueError, match="causal"):
        attention.begin(Forward(2, 1), [16], torch.zeros(1, BLOCK), lambda: None, causal=True, ahead=BLOCK)
