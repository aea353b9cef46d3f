"""A fine-tuned checkpoint of every family: the files of its source with other numbers, and loaded like any."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mage.errors import UserError
from mage.models.checkpoint import load_model
from mage.models.folder import Folder
from mage.models.random_weights import RandomWeights
from mage.training.tuned_folder import tunable_folder, write_tuned
from tests.mage.test_hub_checkpoints import BASE, FAMILIES, spec, write

SHARDS = ("one.safetensors", "two.safetensors")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tuned_folder_loads_as_what_was_written(family: str, tmp_path: Path) -> None:
    write(tmp_path / "source", family, SHARDS)
    source = Folder(tmp_path / "source")
    body = load_model(source, spec(family)).body
    for weight in body.parameters():
        weight.mul_(1.5)
    write_tuned(body, source, tmp_path / "tuned", torch.float32)
    for shard in SHARDS:
        assert load_file(tmp_path / "tuned" / shard).keys() == load_file(tmp_path / "source" / shard).keys()
    found = load_model(tmp_path / "tuned", spec(family))
    for name, got in found.body.state_dict().items():
        assert torch.equal(got, body.state_dict()[name]), name
    assert found.tokenizer.digest == source.tokenizer({}).digest


def test_what_a_source_keeps_in_float32_stays_so(tmp_path: Path) -> None:
    write(tmp_path / "source", "llada2_moe")
    source = Folder(tmp_path / "source")
    write_tuned(load_model(source, spec("llada2_moe")).body, source, tmp_path / "tuned", torch.bfloat16)
    dtypes = {name: tensor.dtype for name, tensor in load_file(tmp_path / "tuned" / "model.safetensors").items()}
    biases = {name for name in dtypes if name.endswith("expert_bias")}
    assert biases and {name for name, dtype in dtypes.items() if dtype == torch.float32} == biases


def test_a_source_that_is_no_folder_is_refused() -> None:
    with pytest.raises(UserError, match="Allowed: a folder"):
        tunable_folder(RandomWeights({**BASE, "model_type": "llama"}))
