"""The body against transformers' own Llama, Qwen2 and Qwen3, on random weights in float32."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mage.errors import UserError
from mage.models.families import body_config
from mage.models.transformer import Transformer
from tests.conftest import CONFIG


def causal(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    group = q.shape[1] // k.shape[1]
    return F.scaled_dot_product_attention(
        q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1), is_causal=True
    )


CASES = {
    "qwen2": {"model_type": "qwen2", "head_dim": 8},
    "qwen2-tied": {"model_type": "qwen2", "head_dim": 8, "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3"},
    "qwen3-bias": {"model_type": "qwen3", "attention_bias": True},
    "qwen3-one-kv-head": {"model_type": "qwen3", "num_key_value_heads": 1},
    "llama": {"model_type": "llama", "num_key_value_heads": 4},
    "llama-bias": {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
}


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES.keys())
def test_causal_forward_equals_transformers(changes: dict[str, object]) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = CONFIG | {"rope_theta": 5000.0} | changes
    torch.manual_seed(0)
    hub_config = AutoConfig.for_model(**{k: v for k, v in config.items() if k != "rope_theta"})
    hub_config.rope_parameters = {"rope_type": "default", "rope_theta": 5000.0}
    reference = AutoModelForCausalLM.from_config(hub_config).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.normal_(1.0 if parameter.dim() == 1 else 0.0, 0.2)
    body = Transformer(body_config(config)).eval()
    body.load_state_dict(reference.state_dict())
    tokens = torch.randint(0, 61, (2, 37))
    with torch.no_grad():
        ours = body.logits(body.hidden(tokens, torch.arange(37).expand(2, -1), causal))
        theirs = reference(tokens).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "qwen33"}, "did you mean qwen3"),
        ({"hidden_act": "gelu"}, "hidden_act=gelu"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4}}, "rope_type=yarn"),
        ({"num_key_value_heads": 3}, "num_key_value_heads=3"),
        ({"vocab_size": None}, "vocab_size is missing"),
    ],
)
def test_config_that_is_not_served_is_refused_by_name(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        body_config(CONFIG | changes)


def test_theta_is_read_from_either_place() -> None:
    assert body_config(CONFIG | {"rope_theta": 7.0}).rope_theta == 7.0
    new_style = {**CONFIG, "rope_parameters": {"rope_type": "default", "rope_theta": 9.0}}
    new_style.pop("rope_theta")
    assert body_config(new_style).rope_theta == 9.0
