"""conf/model: every checkpoint composes, and its body has the size that the checkpoint's files have."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from mage.models.config import BodyConfig
from mage.models.diffusion import DiffusionSpec
from mage.models.families.registry import body_config, hub_layout

FOLDER = Path(__file__).resolve().parents[2] / "conf"
CHECKPOINTS = sorted(p.stem for p in (FOLDER / "model").glob("[a-z]*.yaml") if p.stem != "tiny")
SDAR = [f"sdar_{size}{block}" for size in ("1_7b", "4b", "8b") for block in ("", "_b8", "_b16", "_b32", "_b64")]


def model(name: str) -> dict[str, Any]:
    with initialize_config_dir(str(FOLDER), version_base=None):
        section = OmegaConf.to_container(compose("config", [f"model={name}"]).model, throw_on_missing=True)
    assert isinstance(section, dict)
    return {str(key): value for key, value in section.items()}


def parameters(body: dict[str, Any]) -> tuple[int, int]:
    """Tensors in the hub's files, and numbers in them."""
    layout = hub_layout(body, body_config(body))
    held = [tensor for tensor in layout.values() if tensor.parts and not tensor.optional]
    return len(held), sum(math.prod(tensor.shape) for tensor in held)


def test_every_promised_checkpoint_has_a_file() -> None:
    assert set(CHECKPOINTS) == {
        *SDAR,
        *("sdar_30b_a3b", "sdar_30b_a3b_sci", "trado_4b", "trado_8b", "trado_8b_thinking"),
        *("fast_dllm_v2_1_5b", "fast_dllm_v2_7b", "llada2_0_mini", "llada2_1_mini", "llada2_2_mini"),
        *("efficient_dlm_4b", "efficient_dlm_8b"),
        *("nemotron_diffusion_3b", "nemotron_diffusion_8b", "nemotron_diffusion_14b", "smollm2_135m"),
        "smollm2_135m_bd",
    }


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoint_composes_to_a_body_that_holds_its_ids(name: str) -> None:
    section = model(name)
    body = body_config(section["body"])
    fields = ("block_size", "mask_id", "alignment", "prefix_attention", "anchored")
    spec = DiffusionSpec(stop_ids=tuple(section["stop_ids"]), **{field: section[field] for field in fields})
    assert section["name"] == name
    assert max(spec.mask_id, *spec.stop_ids) < body.vocab_size
    assert section["trained_positions"] == body.max_positions
    assert "/" in section["weights"]
    if "_b" in name and name.rsplit("_b", 1)[1].isdigit():
        assert section["weights"].endswith(f"-b{section['block_size']}")


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [  # of bfloat16 files, as the hub shows them; the last two with an adapter of 0.15 and 0.19 GB beside the body
        ("fast_dllm_v2_7b", 15.23),
        ("sdar_1_7b", 4.06),
        ("sdar_4b", 8.83),
        ("sdar_8b_b32", 16.4),
        ("nemotron_diffusion_8b", 15.95 * 1.024**3 - 0.15),
        ("nemotron_diffusion_14b", 25.33 * 1.024**3 - 0.19),
    ],
)
def test_body_is_as_large_as_the_files(name: str, gigabytes: float) -> None:
    assert parameters(model(name)["body"])[1] * 2 / 1e9 == pytest.approx(gigabytes, rel=0.003)


@pytest.mark.parametrize(("name", "billions"), [("sdar_30b_a3b", 30.5), ("llada2_1_mini", 16.3)])
def test_mixtures_of_experts_are_as_large_as_their_names_say(name: str, billions: float) -> None:
    assert parameters(model(name)["body"])[1] / 1e9 == pytest.approx(billions, rel=0.01)


def test_nemotron_14b_has_the_363_tensors_of_its_file() -> None:
    assert parameters(model("nemotron_diffusion_14b")["body"])[0] == 363


def test_a_body_shrinks_by_its_fields() -> None:
    with initialize_config_dir(str(FOLDER), version_base=None):
        changed = compose("config", ["model=nemotron_diffusion_14b", "model.body.num_hidden_layers=2"]).model.body
    body: BodyConfig = body_config(OmegaConf.to_container(changed))  # type: ignore[arg-type]
    assert (body.num_layers, body.rope_theta, body.head_dim) == (2, 1e9, 128)
