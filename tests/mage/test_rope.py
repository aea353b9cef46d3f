"""Rotary tables: partial rotation, YaRN against transformers' own numbers, query scaling, gradients."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from mage.models.config import BodyConfig, QueryScale
from mage.models.families.registry import body_config
from mage.models.rope import position_tables, rotary_frequencies, rotate
from tests.conftest import CONFIG

NEMOTRON = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 16.0,
    "original_max_position_embeddings": 16384,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
}


def config_of(**changes: Any) -> BodyConfig:
    return body_config(CONFIG | {"head_dim": 128} | changes)


def test_first_64_of_128_dimensions_turn_and_the_rest_stay() -> None:
    config = config_of(rope_theta=600000.0, partial_rotary_factor=0.5)
    assert config.rotary_width == 64
    positions = torch.tensor([[0, 1, 777]])
    x = torch.randn(1, 2, 3, 128)
    tables = position_tables(positions, config, torch.float32)
    out = rotate(x, tables.cos, tables.sin)
    assert torch.equal(out[..., 64:], x[..., 64:])
    for row, position in enumerate((0, 1, 777)):
        for pair in range(32):  # dimension i turns with i + 32, as a complex number
            angle = position * 600000.0 ** (-2 * pair / 64)
            turned = complex(math.cos(angle), math.sin(angle)) * complex(x[0, 1, row, pair], x[0, 1, row, pair + 32])
            assert out[0, 1, row, pair].item() == pytest.approx(turned.real, abs=1e-4)
            assert out[0, 1, row, pair + 32].item() == pytest.approx(turned.imag, abs=1e-4)


@pytest.mark.parametrize("changes", [{}, {"partial_rotary_factor": 0.5}, {"rope_scaling": NEMOTRON}])
def test_gradient_is_the_transpose_of_the_rotation(changes: dict[str, Any]) -> None:
    tables = position_tables(torch.arange(5)[None] * 90, config_of(**changes), torch.float64)
    x = torch.randn(1, 2, 5, 128, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda leaf: rotate(leaf, tables.cos, tables.sin), (x,))


@pytest.mark.parametrize(
    "section",
    [
        NEMOTRON,
        {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 32768},
        {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 64},
        {**NEMOTRON, "beta_fast": 16.0, "beta_slow": 2.0, "truncate": False},
        {**NEMOTRON, "mscale": 0.5, "mscale_all_dim": 2.0},
        {**NEMOTRON, "attention_factor": 1.25},
        {**NEMOTRON, "partial_rotary_factor": 0.5},
    ],
)
def test_yarn_equals_transformers(section: dict[str, Any]) -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    hub = LlamaConfig(**CONFIG | {"head_dim": 128, "model_type": "llama", "rope_parameters": dict(section)})
    frequencies, factor = ROPE_INIT_FUNCTIONS["yarn"](hub)
    config = config_of(rope_parameters=section)
    assert config.yarn is not None
    assert config.yarn.attention_factor == pytest.approx(factor, rel=1e-12)
    torch.testing.assert_close(rotary_frequencies(config, torch.device("cpu")), frequencies, rtol=1e-6, atol=0)


def test_nemotron_stretches_to_its_declared_window() -> None:
    config = config_of(rope_parameters=NEMOTRON, max_position_embeddings=262144)
    assert config.max_positions == 262144
    tables = position_tables(torch.tensor([[0]]), config, torch.float32)
    assert torch.equal(tables.cos, torch.ones(1, 1, 1, 64))  # mscale = mscale_all_dim: no factor on cosine and sine


def test_yarn_window_counts_where_the_config_declares_the_trained_one() -> None:
    section = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
    assert config_of(rope_scaling=section, max_position_embeddings=512).max_positions == 2048


@pytest.mark.parametrize(("position", "windows"), [(0, 0), (16383, 0), (16384, 1), (65535, 3), (65536, 4)])
def test_queries_scale_by_whole_windows(position: int, windows: int) -> None:
    config = replace(config_of(), query_scale=QueryScale(0.1, 16384))
    tables = position_tables(torch.tensor([[position]]), config, torch.float32)
    x = torch.randn(1, 3, 1, 128)
    expected = rotate(x, tables.cos, tables.sin)
    assert torch.equal(tables.keys(x), expected)
    torch.testing.assert_close(tables.queries(x), expected * (1 + 0.1 * math.log(1 + windows)))


def test_neighbouring_positions_differ_in_bfloat16_at_long_context() -> None:
    tables = position_tables(torch.tensor([[100000, 100001]]), config_of(), torch.bfloat16)
    assert not torch.equal(tables.cos[:, :, 0], tables.cos[:, :, 1])
