"""Checkpoints as the hub has them, family by family: files with the published names load, and the model generates."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer as Backend
from tokenizers import models
from torch import Tensor

from baselines.dense import Dense
from mage.errors import UserError
from mage.generation.decoding import Static
from mage.generation.engine import Engine
from mage.models.checkpoint import load_model
from mage.models.diffusion import DiffusionSpec
from mage.models.families.registry import body_config
from mage.models.transformer import Transformer

BASE = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "norm_topk_prob": True}
Tensors = dict[str, Tensor]


def as_is(tensors: Tensors) -> Tensors:
    return tensors


def qwen_moe(tensors: Tensors) -> Tensors:
    """One matrix an expert, the router called gate: Qwen3-MoE."""
    found: Tensors = {}
    for name, tensor in tensors.items():
        if match := re.fullmatch(r"(.*\.experts)\.(\w+)", name):
            found |= {f"{match[1]}.{e}.{match[2]}.weight": matrix for e, matrix in enumerate(tensor)}
        else:
            found[name.replace("mlp.router.weight", "mlp.gate.weight")] = tensor
    return found


def llada2(tensors: Tensors) -> Tensors:
    """A fused query_key_value, and names of its own."""
    found = {}
    for name, tensor in qwen_moe(tensors).items():
        if re.search(r"\.[kv]_proj\.", name):
            continue
        if ".q_proj." in name:
            tensor = torch.cat([tensors[name.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"])
        for ours, theirs in (
            ("model.embed_tokens", "model.word_embeddings"),
            ("self_attn.q_proj", "attention.query_key_value"),
            ("self_attn.o_proj", "attention.dense"),
            ("self_attn.q_norm", "attention.query_layernorm"),
            ("self_attn.k_norm", "attention.key_layernorm"),
            ("mlp.router.bias", "mlp.gate.expert_bias"),
        ):
            name = name.replace(ours, theirs)
        found[name] = tensor
    return found


def nemotron(tensors: Tensors) -> Tensors:
    return {
        "diffusion_head.weight" if name == "lm_head.weight" else name.replace("model.", "encoder.", 1): tensor
        for name, tensor in tensors.items()
    }


YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 128}
LLADA2 = {
    **EXPERTS,
    "head_dim": 16,
    "partial_rotary_factor": 0.5,
    "num_shared_experts": 1,
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 1,
    "score_function": "sigmoid",
    "routed_scaling_factor": 2.5,
}
FAMILIES: dict[str, tuple[dict[str, object], Callable[[Tensors], Tensors]]] = {
    "llama": ({}, as_is),
    "qwen2": ({"tie_word_embeddings": True}, as_is),
    "Fast_dLLM_Qwen": ({"bd_size": 8}, as_is),
    "qwen3": ({"head_dim": 16}, as_is),
    "sdar": ({"head_dim": 16}, as_is),
    "sdar_moe": ({**EXPERTS, "head_dim": 16}, qwen_moe),
    "edlm": ({"head_dim": 16}, lambda tensors: {f"encoder.{name}": tensor for name, tensor in tensors.items()}),
    "nemotron_labs_diffusion": ({"head_dim": 16, "rope_parameters": YARN}, nemotron),
    "llada2_moe": (LLADA2, llada2),
}


def random_body(config: dict[str, object]) -> Transformer:
    torch.manual_seed(0)
    body = Transformer(body_config(config)).requires_grad_(False)
    for parameter in body.parameters():
        if parameter.dim() > 1:
            parameter.normal_(0.0, 2.0 / parameter.shape[-1] ** 0.5)
        elif not bool((parameter == 1).all()):
            parameter.normal_(0.0, 0.5)  # biases, of the router too
    return body.eval()


def write(folder: Path, family: str, shards: tuple[str, ...] = ("model.safetensors",)) -> Transformer:
    """Write the files of a family and return the body they hold."""
    changes, names = FAMILIES[family]
    config = BASE | changes | {"model_type": family}
    body = random_body(config)
    tensors = {name: tensor.clone() for name, tensor in names(dict(body.state_dict())).items()}
    if config["tie_word_embeddings"]:
        tensors.pop("lm_head.weight")
    folder.mkdir(parents=True, exist_ok=True)
    for number, shard in enumerate(shards):
        part = {name: tensor.contiguous() for name, tensor in sorted(tensors.items())[number :: len(shards)]}
        save_file(part, folder / shard)
    (folder / "config.json").write_text(json.dumps(config))
    Backend(models.WordLevel({f"w{i}": i for i in range(61)}, unk_token="w0")).save(str(folder / "tokenizer.json"))
    return body


def spec(family: str) -> DiffusionSpec:
    if family == "nemotron_labs_diffusion":
        return DiffusionSpec(8, 1, (2,), prefix_attention="causal", anchored=True)
    return DiffusionSpec(8, 1, (2,), alignment="shifted" if family == "Fast_dLLM_Qwen" else "same")


@pytest.mark.parametrize("family", FAMILIES)
def test_published_names_load_and_generate(family: str, tmp_path: Path) -> None:
    body = write(tmp_path, family)
    model = load_model(tmp_path, spec(family))
    loaded, written = model.body.state_dict(), body.state_dict()
    assert loaded.keys() == written.keys()
    assert all(torch.equal(loaded[name], written[name]) for name in written)
    engine = Engine(model, Dense(), Static(tokens_per_step=4))
    (answer,) = engine.generate(engine.prefill([list(range(3, 23))], [6]))
    assert 0 < len(answer.tokens) <= 6 or answer.stopped


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", ["sdar", "llada2_moe", "nemotron_labs_diffusion"])
def test_half_precision_generates_on_a_cpu(family: str, dtype: str, tmp_path: Path) -> None:
    write(tmp_path, family)
    model = load_model(tmp_path, spec(family), dtype=dtype)
    engine = Engine(model, Dense(), Static(tokens_per_step=4))
    (answer,) = engine.generate(engine.prefill([list(range(3, 23))], [6]))
    assert 0 < len(answer.tokens) <= 6 or answer.stopped


def test_the_bias_of_a_router_stays_in_float32(tmp_path: Path) -> None:
    write(tmp_path, "llada2_moe")
    body = load_model(tmp_path, spec("llada2_moe"), dtype="bfloat16").body
    found = {name: tensor.dtype for name, tensor in body.state_dict().items()}
    assert {name for name, dtype in found.items() if dtype == torch.float32} == {"model.layers.1.mlp.router.bias"}


def test_shards_without_an_index_load_whatever_they_are_called(tmp_path: Path) -> None:
    body = write(tmp_path, "sdar_moe", tuple(f"layer-{layer}-ep-0-of-1.safetensors" for layer in range(3)))
    loaded = load_model(tmp_path, spec("sdar_moe")).body.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in body.state_dict().items())


@pytest.mark.parametrize(
    ("family", "name"),
    [("llada2_moe", "model.layers.0.attention.query_key_value.weight"), ("sdar_moe", "lm_head.weight")],
)
def test_a_missing_tensor_is_named_as_the_hub_does(family: str, name: str, tmp_path: Path) -> None:
    write(tmp_path, family)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors.pop(name)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=f"tensor {re.escape(name)} is missing"):
        load_model(tmp_path, spec(family))
