"""Adapter folders: they are read as they were written, in the layout of PEFT, and faults are named in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mage.errors import UserError
from mage.models.adapter import Adapter
from mage.models.checkpoint import load_model
from mage.models.diffusion import DiffusionSpec
from tests.conftest import spec
from tests.mage import naive
from tests.mage.adapters import random_adapter

BODY = naive.tiny_body("qwen3")
CAUSAL = DiffusionSpec(8, 1, (2,), "shifted", "causal", anchored=True)
LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random_adapter(BODY).write(tmp_path / "a", torch.float32, "owner/base")
    return tmp_path / "a"


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_was_written_is_read(mask: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    written = random_adapter(BODY, mask=mask)
    written.write(tmp_path / "a", dtype, "owner/base")
    found = Adapter.read(tmp_path / "a")
    assert (found.rank, found.alpha, set(found.factors)) == (3, 6.0, set(written.factors))
    for name, pair in written.factors.items():
        assert all(torch.equal(now, then.to(dtype)) for now, then in zip(found.factors[name], pair, strict=True))
    assert (found.mask_embedding is not None) == mask
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_the_files_are_in_the_layout_of_peft(folder: Path) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config == {
        "peft_type": "LORA",
        "r": 3,
        "lora_alpha": 6.0,
        "target_modules": ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"],
        "base_model_name_or_path": "owner/base",
        "scope": "block",
    }
    tensors = load_file(folder / "adapter_model.safetensors")
    assert tensors[f"{LAYER}.lora_A.weight"].shape == (3, 32)
    assert tensors[f"{LAYER}.lora_B.weight"].shape == (64, 3)
    assert tensors["base_model.model.model.mask_embedding"].shape == (32,)


def test_the_digest_follows_scale_and_numbers(folder: Path) -> None:
    adapter = Adapter.read(folder)
    others = [
        random_adapter(BODY, seed=1),
        replace(adapter, alpha=1.0),
        replace(adapter, mask_embedding=None),
        replace(adapter, factors={**adapter.factors, "model.layers.0.self_attn.q_proj": (torch.ones(3, 32),) * 2}),
    ]
    assert len({adapter.digest, *(other.digest for other in others)}) == 5
    assert adapter.digest == random_adapter(BODY).digest, "wherever it lies"


def configured(**changes: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        file = folder / "adapter_config.json"
        content = json.loads(file.read_text()) | changes
        file.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}, default=str))

    return change


def stored(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    def give(folder: Path) -> None:
        file = folder / "adapter_model.safetensors"
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file)

    return give


def cut(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "adapter_config.json").unlink(), "adapter_config.json: the file is missing"),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "adapter_model.safetensors: the file is miss"),
    "truncated": (cut, "adapter_model.safetensors: not a readable safetensors file"),
    "kind": (configured(peft_type="IA3"), "adapter_config.json: peft_type=IA3 is not supported. Allowed: LORA."),
    "scope": (configured(scope="all"), "adapter_config.json: scope=all is not supported. Allowed: block."),
    "no rank": (configured(r=0), "adapter_config.json: r=0 is out of range. Allowed: an integer >= 1."),
    "alpha": (configured(lora_alpha="x"), "adapter_config.json: lora_alpha=x is not a number"),
    "another scale": (configured(use_rslora=True), "use_rslora=True is not supported. Allowed: false."),
    "ranks": (configured(rank_pattern={"q_proj": 4}), "rank_pattern={'q_proj': 4} is not supported. Allowed: {}."),
    "partner": (stored(lambda t: t.pop(f"{LAYER}.lora_A.weight")), f"tensor {LAYER}.lora_A.weight is missing"),
    "surplus": (stored(lambda t: t.update(x=torch.ones(2))), "tensor x is not part of an adapter"),
    "magnitude": (
        stored(lambda t: t.update({f"{LAYER}.lora_magnitude_vector": torch.ones(2)})),
        f"tensor {LAYER}.lora_magnitude_vector is not part of an adapter",
    ),
    "integers": (
        stored(lambda t: t.update({f"{LAYER}.lora_B.weight": torch.ones(64, 3).int()})),
        f"tensor {LAYER}.lora_B.weight has dtype torch.int32",
    ),
    "not finite": (
        stored(lambda t: t[f"{LAYER}.lora_B.weight"][5].fill_(float("nan"))),
        f"tensor {LAYER}.lora_B.weight holds NaN or infinity",
    ),
    "rank": (configured(r=4), "mlp.down_proj.lora_A.weight has shape (3, 48), the model needs (4, 48)"),
    "misshapen": (
        stored(lambda t: t.update({f"{LAYER}.lora_B.weight": torch.ones(60, 3)})),
        f"tensor {LAYER}.lora_B.weight has shape (60, 3), the model needs (64, 3)",
    ),
    "mask": (
        stored(lambda t: t.update({"base_model.model.model.mask_embedding": torch.ones(31)})),
        "tensor base_model.model.model.mask_embedding has shape (31,), the model needs (32,)",
    ),
    "no such map": (
        stored(lambda t: t.update({LAYER.replace("0", "7") + f".lora_{x}.weight": torch.ones(3, 3) for x in "AB"})),
        "the model has no linear map model.layers.7.self_attn.q_proj",
    ),
    "output matrix": (
        stored(lambda t: t.update({f"base_model.model.lm_head.lora_{x}.weight": torch.ones(3, 3) for x in "AB"})),
        "the model has no linear map lm_head",
    ),
}


@pytest.mark.parametrize(("damage", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_what_cannot_be_merged_is_named_in_one_line(
    damage: Callable[[Path], object], words: str, folder: Path, checkpoint: Path
) -> None:
    damage(folder)
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        load_model(checkpoint, CAUSAL, adapter=Adapter.read(folder))
    assert str(caught.value).startswith(str(folder)) and "\n" not in str(caught.value)


def test_a_loaded_model_has_both_bodies(folder: Path, checkpoint: Path) -> None:
    adapter = Adapter.read(folder)
    model = load_model(checkpoint, CAUSAL, dtype="bfloat16", adapter=adapter)
    expected = adapter.merged_into(model.body, 1).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.block_body.state_dict().items())
    plain = load_model(checkpoint, CAUSAL)
    assert plain.block_body is plain.body


def test_an_adapter_is_refused_before_the_weights_are_looked_for(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prefix_attention=block_causal with model\.adapter"):
        load_model(tmp_path / "nowhere", spec(), adapter=Adapter.read(folder))
