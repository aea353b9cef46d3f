"""Random weights: drawn the same each time, of a size that leaves logits finite and different."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from baselines.dense import Dense
from mage.errors import UserError
from mage.generation.decoding import Static
from mage.generation.engine import Engine
from mage.models.checkpoint import LanguageModel, load_model
from mage.models.diffusion import DiffusionSpec
from mage.models.opening import open_source
from mage.models.random_weights import RandomWeights
from mage.models.vocabulary import byte
from tests.mage.test_hub_checkpoints import BASE, FAMILIES

SPEC = DiffusionSpec(8, 5, (6,))


def config(family: str, **changes: object) -> dict[str, Any]:
    return BASE | FAMILIES[family][0] | {"model_type": family, "vocab_size": 300} | changes


def draw(family: str, dtype: str = "float32", **changes: object) -> LanguageModel:
    source = RandomWeights(config(family, **changes))
    return load_model(source, SPEC, dtype=dtype, tokenizer=byte(SPEC.mask_id, SPEC.stop_ids))


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_finite_and_differ(family: str) -> None:
    model = draw(family)
    engine = Engine(model, Dense(), Static(tokens_per_step=4))
    prefix = engine.prefill([model.tokenizer.encode("a prompt of more than one block")], [8])
    assert bool(prefix.last_logits.isfinite().all()) and float(prefix.last_logits.std()) > 0.3
    (answer,) = engine.generate(prefix)
    assert answer.tokens or answer.stopped


def test_deep_bodies_stay_finite_in_half_precision() -> None:
    model = draw("qwen3", "bfloat16", num_hidden_layers=40)
    assert bool(model.body.lm_head.weight.isfinite().all())
    prefix = Engine(model, Dense(), Static()).prefill([list(range(7, 31))], [8])
    assert bool(prefix.last_logits.isfinite().all()) and 0.3 < float(prefix.last_logits.std()) < 30


def test_a_draw_is_always_the_same_and_does_not_depend_on_the_other_tensors() -> None:
    one, again, shallow = draw("qwen3"), draw("qwen3"), draw("qwen3", num_hidden_layers=1)
    for name, tensor in shallow.body.state_dict().items():
        if not name.endswith(("o_proj.weight", "down_proj.weight")):  # scaled by the number of layers
            assert torch.equal(tensor, one.body.state_dict()[name]), name
    assert all(torch.equal(a, b) for a, b in zip(one.body.parameters(), again.body.parameters()))


def test_the_digest_follows_the_body() -> None:
    digests = [RandomWeights(config("qwen3", num_hidden_layers=n)).digest() for n in (2, 2, 3)]
    assert digests[0] == digests[1] != digests[2]


def test_a_key_that_nothing_reads_changes_no_digest() -> None:
    assert RandomWeights(config("qwen3", torch_dtype="bfloat16")).digest() == RandomWeights(config("qwen3")).digest()


def test_a_body_without_keys_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.weights=random: model\.body is empty"):
        open_source("random")
    with pytest.raises(UserError, match="hidden_size"):
        load_model(RandomWeights({"model_type": "qwen3", "vocab_size": 300, "num_attention_heads": 2}), SPEC)
