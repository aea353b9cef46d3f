"""Families: what their config.json says, and how the hub's files name the tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mage.errors import UserError
from mage.models.config import BodyConfig, Experts, QueryScale
from mage.models.families.registry import FAMILIES, body_config, hub_layout
from mage.models.layout import Layout, by_file_name, fill
from mage.models.transformer import Transformer
from tests.conftest import CONFIG

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12}
LLADA2 = {
    **EXPERTS,
    "partial_rotary_factor": 0.5,
    "num_shared_experts": 2,
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 1,
    "routed_scaling_factor": 2.5,
    "use_qkv_bias": True,
}
YARN = {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 32, "llama_4_scaling_beta": 0.1}
EXTRA: dict[str, dict[str, Any]] = {
    "qwen3_moe": EXPERTS,
    "sdar_moe": EXPERTS,
    "llada2_moe": LLADA2,
    "llada2_moe_veomni": LLADA2,
    "nemotron_labs_diffusion": {"rope_parameters": {**YARN, "rope_theta": 5000.0}},
}


def config_of(family: str, **changes: Any) -> dict[str, Any]:
    return CONFIG | EXTRA.get(family, {}) | {"model_type": family} | changes


def layout_of(family: str, **changes: Any) -> Layout:
    config = config_of(family, **changes)
    return hub_layout(config, body_config(config))


def hub_tensors(layout: Layout, ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a body in the hub's layout: the other way of `fill`."""
    hub = {}
    for name, tensor in layout.items():
        if tensor.parts:
            hub[name] = torch.full(tensor.shape, torch.nan)
            for part in tensor.parts:
                source = ours[part.target] if part.index is None else ours[part.target][part.index]
                (hub[name] if part.rows is None else hub[name][slice(*part.rows)]).copy_(source)
    return hub


@pytest.mark.parametrize("family", FAMILIES)
def test_layout_round_trip_keeps_every_number(family: str) -> None:
    config = config_of(family)
    torch.manual_seed(0)
    body = Transformer(body_config(config)).requires_grad_(False)
    for parameter in body.parameters():
        parameter.normal_()
    layout = hub_layout(config, body.config)
    hub = hub_tensors(layout, body.state_dict())
    assert not any(tensor.isnan().any() for tensor in hub.values())  # no row of a hub tensor is left without a part
    again = Transformer(body.config).requires_grad_(False)
    filled = {name: torch.zeros_like(tensor) for name, tensor in again.state_dict().items()}
    for name, tensor in hub.items():
        for part in layout[name].parts:
            fill(part, tensor, again.state_dict()[part.target])
            place = filled[part.target] if part.index is None else filled[part.target][part.index]
            place.add_(1)
    assert all((count == 1).all() for count in filled.values())  # every number of the body has one source
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in body.state_dict().items())


NAMES = {
    "Fast_dLLM_Qwen": {
        "model.embed_tokens.weight": (61, 32),
        "model.layers.2.self_attn.q_proj.bias": (64,),
        "model.layers.0.self_attn.o_proj.weight": (32, 64),
        "lm_head.weight": (61, 32),
    },
    "sdar": {
        "model.layers.0.self_attn.q_norm.weight": (16,),
        "model.layers.1.mlp.gate_proj.weight": (48, 32),
        "model.layers.1.post_attention_layernorm.weight": (32,),
        "model.norm.weight": (32,),
    },
    "sdar_moe": {
        "model.layers.0.mlp.gate.weight": (4, 32),
        "model.layers.2.mlp.experts.3.down_proj.weight": (32, 12),
        "model.layers.2.mlp.experts.0.up_proj.weight": (12, 32),
    },
    "llada2_moe": {
        "model.word_embeddings.weight": (61, 32),
        "model.layers.0.attention.query_key_value.weight": (128, 32),
        "model.layers.0.attention.query_key_value.bias": (128,),
        "model.layers.0.attention.query_layernorm.weight": (16,),
        "model.layers.0.attention.key_layernorm.weight": (16,),
        "model.layers.0.attention.dense.weight": (32, 64),
        "model.layers.0.mlp.gate_proj.weight": (48, 32),
        "model.layers.1.mlp.gate.weight": (4, 32),
        "model.layers.1.mlp.gate.expert_bias": (4,),
        "model.layers.1.mlp.experts.2.gate_proj.weight": (12, 32),
        "model.layers.1.mlp.shared_experts.down_proj.weight": (32, 24),
        "model.layers.2.input_layernorm.weight": (32,),
        "lm_head.weight": (61, 32),
    },
    "llada2_moe_veomni": {
        "model.layers.1.mlp.experts.gate_proj": (4, 12, 32),
        "model.layers.1.mlp.experts.down_proj": (4, 32, 12),
        "model.layers.1.attention.query_key_value.weight": (128, 32),
    },
    "nemotron_labs_diffusion": {
        "encoder.embed_tokens.weight": (61, 32),
        "encoder.layers.0.self_attn.q_proj.weight": (64, 32),
        "encoder.layers.2.mlp.up_proj.weight": (48, 32),
        "encoder.norm.weight": (32,),
        "diffusion_head.weight": (61, 32),
    },
    "edlm": {"model.layers.0.self_attn.k_norm.weight": (16,), "lm_head.weight": (61, 32)},
}


@pytest.mark.parametrize(("family", "expected"), NAMES.items(), ids=NAMES.keys())
def test_hub_names_and_shapes(family: str, expected: dict[str, tuple[int, ...]]) -> None:
    layout = layout_of(family)
    assert {name: layout[name].shape for name in expected} == expected


def test_fused_projection_holds_query_key_value_in_this_order() -> None:
    parts = layout_of("llada2_moe")["model.layers.0.attention.query_key_value.weight"].parts
    assert [(part.target.split(".")[-2], part.rows) for part in parts] == [
        ("q_proj", (0, 64)),
        ("k_proj", (64, 96)),
        ("v_proj", (96, 128)),
    ]


def test_only_the_bias_of_the_choice_of_experts_stays_in_float32() -> None:
    exact = {name for name, tensor in layout_of("llada2_moe").items() if tensor.float32}
    assert exact == {f"model.layers.{layer}.mlp.gate.expert_bias" for layer in (1, 2)}


@pytest.mark.parametrize(("tied", "optional"), [(True, True), (False, False)])
def test_output_matrix_may_be_absent_where_embeddings_are_tied(tied: bool, optional: bool) -> None:
    assert layout_of("Fast_dLLM_Qwen", tie_word_embeddings=tied)["lm_head.weight"].optional is optional


def test_sdar_has_an_output_matrix_of_its_own_whatever_the_config_says() -> None:
    for family in ("sdar", "sdar_moe"):
        assert not body_config(config_of(family, tie_word_embeddings=True)).tied_embeddings


def test_wrapped_names_of_efficient_dlm_are_accepted() -> None:
    names = by_file_name(layout_of("edlm"))
    for name in ("model.norm.weight", "encoder.model.norm.weight", "encoder.norm.weight"):
        assert names[name] == "model.norm.weight"
    for name in ("lm_head.weight", "encoder.lm_head.weight", "diffusion_head.weight"):
        assert names[name] == "lm_head.weight"


def test_old_llama_files_may_hold_rotary_frequencies() -> None:
    tensor = layout_of("llama")["model.layers.0.self_attn.rotary_emb.inv_freq"]
    assert (tensor.shape, tensor.parts, tensor.optional) == ((8,), (), True)


def test_llada2_config_is_read_whole() -> None:
    body = body_config(config_of("llada2_moe", expert_capacity=3, block_size=8))
    assert body.rotary_width == 8
    assert body.experts == Experts(
        count=4,
        per_token=2,
        intermediate_size=12,
        scoring="sigmoid",
        bias=True,
        groups=2,
        groups_kept=1,
        scale=2.5,
        shared_size=24,
        dense_layers=(0,),
        capacity=3,
        block_size=8,
    )
    assert (body.qkv_bias, body.output_bias, body.qk_norm) == (True, False, True)


def test_nemotron_scales_queries_by_the_trained_window() -> None:
    body = body_config(config_of("nemotron_labs_diffusion"))
    assert body.query_scale == QueryScale(0.1, 32)
    assert body.max_positions == 512
    assert body.rope_theta == 5000.0
    plain = config_of("nemotron_labs_diffusion", rope_parameters={"rope_type": "default"})
    assert body_config(plain).query_scale is None


def test_theta_is_read_from_either_place() -> None:
    assert body_config(CONFIG | {"rope_theta": 7.0}).rope_theta == 7.0
    new_style = {**CONFIG, "rope_parameters": {"rope_type": "default", "rope_theta": 9.0}}
    new_style.pop("rope_theta")
    assert body_config(new_style).rope_theta == 9.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "qwen33"}, "did you mean qwen3"),
        ({"model_type": None}, "model_type=None is not known"),
        ({"hidden_act": "gelu"}, "hidden_act=gelu is not supported. Allowed: silu"),
        ({"use_sliding_window": True}, "use_sliding_window=true is not supported. Allowed: false"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 4}}, "rope_type=llama3.*Allowed: default, yarn"),
        ({"rope_scaling": {"type": "dynamic", "factor": 4}}, "rope_type=dynamic"),
        ({"num_key_value_heads": 3}, "num_key_value_heads=3"),
        ({"vocab_size": None}, "vocab_size is missing"),
        ({"head_dim": 15}, "head_dim=15 is odd"),
        ({"partial_rotary_factor": 0.3, "head_dim": 10}, "3 rotary dimensions of head_dim=10"),
        ({"model_type": "qwen3_moe"}, "num_experts is missing"),
        ({"model_type": "ministral3", "sliding_window": 4096}, "sliding_window=4096"),
    ],
)
def test_config_that_is_not_served_is_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        body_config(CONFIG | changes)


def test_number_of_experts_taken_is_within_those_there_are() -> None:
    with pytest.raises(UserError, match=r"num_experts_per_tok=5.*num_experts=4"):
        body_config(config_of("qwen3_moe", num_experts_per_tok=5))
    with pytest.raises(UserError, match="num_experts=4 is not a multiple of n_group=3"):
        body_config(config_of("llada2_moe", n_group=3))
    with pytest.raises(UserError, match="topk_group=1 groups of 2 experts hold fewer than num_experts_per_tok=3"):
        body_config(config_of("llada2_moe", num_experts_per_tok=3))


def test_plain_body_declares_nothing_special() -> None:
    body: BodyConfig = body_config(CONFIG)
    assert (body.rotary_dim, body.yarn, body.query_scale, body.experts) == (None, None, None, None)
