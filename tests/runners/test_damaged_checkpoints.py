"""Checkpoints that cannot be loaded, and hub names out of reach: one line that names the file, and nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch

from tests.runners.conftest import write_tiny_checkpoint


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_checkpoint_is_named_and_nothing_is_written(
    name: str, run: Callable[..., int], tmp_path: Path, out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write_tiny_checkpoint(tmp_path / "damaged") / name
    file.write_bytes(file.read_bytes()[:100])
    assert run("-m", f"model.weights={file.parent}", "method=mage,quest") == 2
    assert str(file) in capfd.readouterr().err
    assert not out.parent.exists()


def pickled(folder: Path) -> Path:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    return folder


def without_tokenizer(folder: Path) -> Path:
    (folder / "tokenizer.json").unlink()
    return folder


def with_a_broken_template(folder: Path) -> Path:
    (folder / "chat_template.jinja").write_text("{% for %}")
    return folder


def of_another_shape(folder: Path) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"hidden_size": 48}))
    return folder


def gguf_of_another_architecture(folder: Path) -> Path:
    from gguf import GGUFWriter

    file = folder / "other.gguf"
    writer = GGUFWriter(file, "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


DAMAGED = {
    pickled: "pickle formats can run code",
    without_tokenizer: "tokenizer.json: the tokenizer file is missing",
    with_a_broken_template: "the chat template is broken",
    of_another_shape: "has shape",
    gguf_of_another_architecture: "general.architecture=mamba is not known",
}


@pytest.mark.parametrize("damage", DAMAGED, ids=lambda damage: damage.__name__)
def test_what_cannot_be_loaded_is_told_in_one_line(
    damage: Callable[[Path], Path],
    run: Callable[..., int],
    tmp_path: Path,
    out: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    place = damage(write_tiny_checkpoint(tmp_path / "damaged"))
    assert run(f"model.weights={place}", "method=dense") == 2
    told = capfd.readouterr().err
    assert str(place) in told and DAMAGED[damage] in told and len(told.splitlines()) == 1
    assert not out.parent.exists()


def test_a_hub_name_without_a_network_is_told_in_one_line(
    run: Callable[..., int], out: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert run("model.weights=owner/no-such-model", "method=dense") == 2
    told = capfd.readouterr().err
    assert told.startswith("model.weights=owner/no-such-model: no such folder here, and the hub cannot be reached")
    assert "name the folder" in told and len(told.splitlines()) == 1
    assert not out.parent.exists()


def test_nothing_is_fetched_for_a_machine_that_cannot_run_it(
    run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: pytest.fail("the hub was asked"))
    assert run("-m", "model.weights=owner/model", "model.device=cpu,cuda", "method=dense") == 2
    assert "model.device=cuda" in capfd.readouterr().err


def test_a_damaged_later_checkpoint_refuses_the_whole_sweep(
    run: Callable[..., int], tiny_checkpoint: Path, tmp_path: Path, out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write_tiny_checkpoint(tmp_path / "damaged", seed=1) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])  # its header is whole
    assert run("-m", f"model.weights={tiny_checkpoint},{file.parent}", "method=dense") == 2
    assert str(file) in capfd.readouterr().err
    assert not out.parent.exists()


@pytest.mark.parametrize("changes", [{"num_attention_heads": "4"}, {"hidden_act": "gelu"}, {"head_dim": 15}])
def test_a_config_json_that_cannot_work_is_named(
    changes: dict[str, object], run: Callable[..., int], tmp_path: Path, out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write_tiny_checkpoint(tmp_path / "odd") / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    assert run(f"model.weights={file.parent}") == 2
    told = capfd.readouterr().err
    assert str(file.parent) in told and "config.json" in told and len(told.splitlines()) == 1
    assert not out.parent.exists()
