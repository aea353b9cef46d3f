"""Models with an adapter: denoising forwards run the block body, and the prefix is that of the model without it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from baselines.dense import Dense
from mage.errors import UserError
from mage.generation.canvas import Canvas
from mage.generation.decoding import Decoding, Static, Threshold, Writing
from mage.generation.editing import Edit
from mage.generation.engine import Engine
from mage.models.adapter import Adapter
from mage.models.checkpoint import LanguageModel
from mage.models.diffusion import DiffusionSpec
from tests.conftest import prompt
from tests.mage import naive
from tests.mage.adapters import Branched, random_adapter

BLOCK = 8
SPEC = DiffusionSpec(BLOCK, 1, (2,), "shifted", "causal", anchored=True)


@pytest.fixture(scope="module")
def base(model: LanguageModel) -> LanguageModel:
    return replace(model, body=naive.tiny_body("llama", tie_word_embeddings=True), spec=SPEC)


@pytest.fixture(scope="module")
def adapter(base: LanguageModel) -> Adapter:
    return random_adapter(base.body)


@pytest.fixture(scope="module")
def adapted(base: LanguageModel, adapter: Adapter) -> LanguageModel:
    return replace(base, adapted=adapter.merged_into(base.body, SPEC.mask_id))


@pytest.mark.parametrize("tied", [False, True])
def test_the_block_body_is_the_body_with_low_rank_branches(tied: bool) -> None:
    body = naive.tiny_body("qwen2", tie_word_embeddings=tied)
    adapter = random_adapter(body)
    tokens = torch.tensor([[5, 1, 1, 9, 1], [7, 8, 1, 3, 4]])
    places = torch.arange(5).expand(2, -1)

    def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    merged, branched = adapter.merged_into(body, 1), Branched(body, adapter, 1).body
    logits = [b.logits(b.hidden(tokens, places, attend)) for b in (body, merged, branched)]
    torch.testing.assert_close(logits[1], logits[2], atol=1e-4, rtol=1e-4)
    assert (logits[0] - logits[1]).abs().max() > 1


def test_what_is_not_changed_is_shared(base: LanguageModel, adapter: Adapter) -> None:
    before = {name: tensor.clone() for name, tensor in base.body.state_dict().items()}
    merged = adapter.merged_into(base.body, 1).state_dict()
    changed = {f"{name}.weight" for name in adapter.factors} | {"model.embed_tokens.weight"}
    for name, tensor in base.body.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert (merged[name].data_ptr() == tensor.data_ptr()) == (name not in changed), name
    rows = (merged["model.embed_tokens.weight"] != before["model.embed_tokens.weight"]).any(-1)
    assert rows.nonzero().flatten().tolist() == [1]
    assert base.body.lm_head.weight is base.body.model.embed_tokens.weight


def test_without_a_mask_embedding_the_embedding_is_shared(base: LanguageModel) -> None:
    merged = random_adapter(base.body, mask=False).merged_into(base.body, 1)
    assert merged.model.embed_tokens.weight.data_ptr() == base.body.model.embed_tokens.weight.data_ptr()


def test_the_sum_is_taken_in_float32(base: LanguageModel, adapter: Adapter) -> None:
    half = naive.tiny_body("llama", tie_word_embeddings=True).bfloat16()
    merged, name = adapter.merged_into(half, 1), "model.layers.1.mlp.up_proj"
    a, b = adapter.factors[name]
    exact = half.get_submodule(name).weight.float() + 2.0 * (b @ a)
    assert torch.equal(merged.get_submodule(name).weight, exact.bfloat16())
    assert {tensor.dtype for tensor in merged.state_dict().values()} == {torch.bfloat16}


POLICIES: list[tuple[Decoding, naive.Rule]] = [
    (Static(tokens_per_step=2), naive.fill(naive.static(lambda step: 2))),
    (Threshold(threshold=0.2, sub_block=4), naive.fill(naive.threshold(0.2), 4)),
    (Edit(threshold=0.2, editing_threshold=0.3), naive.edit(0.2, 0.3, 1, 16)),
]


@pytest.mark.parametrize("alignment", ["same", "shifted"])
@pytest.mark.parametrize("length", [1, 8, 21])
def test_generation_equals_full_forwards_with_branches_in_the_block(
    length: int, alignment: str, adapted: LanguageModel, adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = replace(adapted, spec=replace(SPEC, alignment=alignment))  # type: ignore[arg-type]
    branched, forward = Branched(adapted.body, adapter, SPEC.mask_id), naive.forward

    def over_everything(model: LanguageModel, tokens: list[int], finished: int) -> torch.Tensor:
        branched.finished = finished
        return forward(replace(model, body=branched.body, adapted=None), tokens, finished)

    monkeypatch.setattr(naive, "forward", over_everything)
    tokens, differs = prompt(length, seed=length), False
    for decoding, rule in POLICIES:
        engine = Engine(chosen, Dense(), decoding)
        (answer,) = engine.generate(engine.prefill([tokens], [21]))
        assert answer.tokens == naive.generate(chosen, tokens, 21, rule), decoding
        engine = Engine(replace(chosen, adapted=None), Dense(), decoding)
        differs |= engine.generate(engine.prefill([tokens], [21]))[0].tokens != answer.tokens
    assert differs, "the adapter changes what is decoded"


class Replay(Decoding):
    """Writes `tokens`, block by block, whatever the logits say."""

    def __init__(self, tokens: list[int]) -> None:
        super().__init__()
        self._blocks = iter(torch.tensor(tokens).split(BLOCK))

    def open(self, canvas: Canvas) -> Writing:
        return Replayed(canvas, next(self._blocks))


class Replayed(Writing):
    def __init__(self, canvas: Canvas, tokens: torch.Tensor) -> None:
        self._canvas, self._tokens, self._open = canvas, tokens, True

    def active(self) -> torch.Tensor:
        return torch.tensor([self._open])

    def step(self, logits: torch.Tensor) -> torch.Tensor:
        self._open = False
        self._canvas.tokens = self._tokens[None].clone()
        return ~self._canvas.frozen


@pytest.mark.parametrize("decoding", [Static(tokens_per_step=3), Edit(threshold=0.2)], ids=["static", "edit"])
def test_the_prefix_is_that_of_the_model_without_the_adapter(
    decoding: Decoding, base: LanguageModel, adapted: LanguageModel
) -> None:
    tokens, endless = prompt(13, seed=3), replace(SPEC, stop_ids=())
    base, adapted = replace(base, spec=endless), replace(adapted, spec=endless)
    with_adapter, without = (Engine(model, Dense(), decoding) for model in (adapted, base))
    prefix, plain = (engine.prefill([tokens], [3 * BLOCK]) for engine in (with_adapter, without))
    assert torch.equal(prefix.cache.keys[:, :, :, :13], plain.cache.keys[:, :, :, :13])
    assert torch.equal(prefix.cache.values[:, :, :, :13], plain.cache.values[:, :, :, :13])
    assert torch.equal(prefix.last_logits, plain.last_logits)
    (answer,) = with_adapter.generate(prefix)
    assert len(answer.tokens) == 3 * BLOCK and answer.trace.forwards["commit"] == 2, "no denoising step settles"
    # The same tokens under the model without the adapter: its commits are forwards of the same shape.
    (replayed,) = Engine(base, Dense(), Replay(answer.tokens)).generate(plain)
    assert replayed.tokens == answer.tokens
    end = 13 + 2 * BLOCK
    assert torch.equal(prefix.cache.keys[:, :, :, :end], plain.cache.keys[:, :, :, :end])
    assert torch.equal(prefix.cache.values[:, :, :, :end], plain.cache.values[:, :, :, :end])


def test_blocks_of_one_token_are_those_of_the_base(base: LanguageModel, adapted: LanguageModel) -> None:
    answers = []
    for model in (base, adapted):
        engine = Engine(replace(model, spec=replace(SPEC, block_size=1)), Dense(), Static())
        answers += engine.generate(engine.prefill([prompt(9)], [20]))
    assert answers[0].tokens == answers[1].tokens
    assert answers[1].trace.forwards["exact"] == 0


def test_an_adapter_needs_causal_prefixes(adapted: LanguageModel) -> None:
    with pytest.raises(UserError, match=r"prefix_attention=block_causal with model\.adapter .* Allowed: causal\.$"):
        replace(adapted, spec=replace(SPEC, prefix_attention="block_causal"))
