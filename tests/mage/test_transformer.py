"""The body against transformers' own models, on random weights in float32, through the hub's file layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from mage.errors import UserError
from mage.models.config import with_yarn
from mage.models.families.registry import body_config, hub_layout
from mage.models.layout import fill
from mage.models.transformer import Transformer
from tests.conftest import CONFIG

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 24}
MINISTRAL = {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1}

CASES: dict[str, dict[str, Any]] = {
    "qwen2": {"model_type": "qwen2", "head_dim": 8},
    "qwen2-tied": {"model_type": "qwen2", "head_dim": 8, "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3"},
    "qwen3-bias": {"model_type": "qwen3", "attention_bias": True},
    "qwen3-one-kv-head": {"model_type": "qwen3", "num_key_value_heads": 1},
    "qwen3-yarn": {"model_type": "qwen3", "rope": YARN},
    "qwen3-moe": {"model_type": "qwen3_moe", **EXPERTS, "norm_topk_prob": True},
    "qwen3-moe-plain-weights": {"model_type": "qwen3_moe", **EXPERTS, "norm_topk_prob": False},
    "qwen3-moe-every-second-layer": {"model_type": "qwen3_moe", **EXPERTS, "decoder_sparse_step": 2},
    "qwen3-moe-dense-layer": {"model_type": "qwen3_moe", **EXPERTS, "mlp_only_layers": [1]},
    "llama": {"model_type": "llama", "num_key_value_heads": 4},
    "llama-bias": {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "llama-yarn": {"model_type": "llama", "rope": {**YARN, "beta_fast": 8.0, "beta_slow": 0.5, "truncate": False}},
    "llama-yarn-attention-factor": {"model_type": "llama", "rope": {**YARN, "attention_factor": 1.3}},
    "llama-yarn-mscale": {"model_type": "llama", "rope": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.2}},
    "ministral3": {"model_type": "ministral3", "rope": MINISTRAL},
}


def causal(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    group = q.shape[1] // k.shape[1]
    return F.scaled_dot_product_attention(
        q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1), is_causal=True
    )


def reference_and_config(changes: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A random model of transformers and the config.json that it stands for."""
    from transformers import AutoConfig, AutoModelForCausalLM

    rope = {"rope_type": "default", **changes.get("rope", {}), "rope_theta": 5000.0}
    config = CONFIG | {"rope_parameters": rope} | {key: value for key, value in changes.items() if key != "rope"}
    config.pop("rope_theta")
    torch.manual_seed(0)
    reference = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.normal_(1.0 if parameter.dim() == 1 else 0.0, 0.2)
    return reference, config


def body_of(reference: Any, config: dict[str, Any], folder: Path) -> Transformer:
    """Our body, filled from the file that transformers writes."""
    reference.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    body = Transformer(body_config(config)).eval()
    layout = hub_layout(config, body.config)
    assert set(tensors) <= set(layout)
    assert all(name in tensors for name, tensor in layout.items() if not tensor.optional)
    ours = body.state_dict()
    for name, tensor in tensors.items():
        assert layout[name].shape == tuple(tensor.shape)
        for part in layout[name].parts:
            fill(part, tensor, ours[part.target])
    return body


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES.keys())
def test_causal_forward_equals_transformers(changes: dict[str, Any], tmp_path: Path) -> None:
    reference, config = reference_and_config(changes)
    body = body_of(reference, config, tmp_path)
    tokens = torch.randint(0, 61, (2, 150))  # more than twice YaRN's trained window
    with torch.no_grad():
        ours = body.logits(body.hidden(tokens, torch.arange(150).expand(2, -1), causal))
        theirs = reference(tokens).logits
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_forced_yarn_equals_yarn_of_the_config(tmp_path: Path) -> None:
    reference, config = reference_and_config({"max_position_embeddings": 256, "rope": YARN})
    stretched = body_of(reference, config, tmp_path)
    plain = {**config, "max_position_embeddings": 64, "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}}
    forced = Transformer(with_yarn(body_config(plain), 4.0)).eval()
    forced.load_state_dict(stretched.state_dict())
    assert forced.config == stretched.config
    tokens, positions = torch.randint(0, 61, (1, 100)), torch.arange(100)[None]
    with torch.no_grad():
        torch.testing.assert_close(
            forced.hidden(tokens, positions, causal), stretched.hidden(tokens, positions, causal), rtol=0, atol=0
        )


@pytest.mark.parametrize("factor", [1.0, 0.5, float("inf"), float("nan")])
def test_yarn_factor_that_does_not_stretch_is_refused(factor: float) -> None:
    with pytest.raises(UserError, match=r"model\.yarn="):
        with_yarn(body_config(CONFIG), factor)


def test_yarn_on_top_of_yarn_is_refused() -> None:
    with pytest.raises(UserError, match="already has YaRN with factor 4"):
        with_yarn(body_config(CONFIG | {"rope_scaling": YARN}), 2.0)
