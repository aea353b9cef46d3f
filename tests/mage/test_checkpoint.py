"""Checkpoint folders: what loads, and the one line that refuses what does not."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mage.errors import UserError
from mage.models.checkpoint import content_hash, load_model
from mage.models.config import with_yarn
from mage.models.folder import INDEX_NAME, Folder
from mage.models.source import check_source
from tests.conftest import prompt, spec, write_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint")


def shard(folder: Path) -> None:
    """Split the weights in two files with an index."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors").unlink()
    (folder / INDEX_NAME).write_text(json.dumps({"weight_map": weight_map}))


def test_sharded_weights_equal_single_file(folder: Path) -> None:
    single = load_model(folder, spec()).body.state_dict()
    shard(folder)
    sharded = load_model(folder, spec()).body.state_dict()
    assert single.keys() == sharded.keys() and all(torch.equal(single[name], sharded[name]) for name in single)


def test_tied_embeddings_share_one_tensor(tmp_path: Path) -> None:
    body = load_model(write_checkpoint(tmp_path / "tied", tie_word_embeddings=True), spec()).body
    assert body.lm_head.weight is body.model.embed_tokens.weight


def test_dtype_is_applied(folder: Path) -> None:
    assert {p.dtype for p in load_model(folder, spec(), dtype="bfloat16").body.parameters()} == {torch.bfloat16}


def test_tokenizer_round_trip(folder: Path) -> None:
    tokenizer = load_model(folder, spec()).tokenizer
    ids = prompt(20)
    assert tokenizer.encode(tokenizer.decode(ids)) == ids


def rewrite(folder: Path, name: str, tensor: torch.Tensor | None) -> None:
    tensors = load_file(folder / "model.safetensors")
    if tensor is None:
        tensors.pop(name)
    else:
        tensors[name] = tensor
    save_file(tensors, folder / "model.safetensors")


def truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


NORM = "model.norm.weight"
FAULTS = {
    "no-config": (lambda f: (f / "config.json").unlink(), r"config\.json: the file is missing"),
    "bad-config": (lambda f: (f / "config.json").write_text("{"), r"config\.json: not valid JSON"),
    "config-list": (lambda f: (f / "config.json").write_text("[]"), "expected a JSON object"),
    "no-tokenizer": (lambda f: (f / "tokenizer.json").unlink(), r"tokenizer\.json: the tokenizer file is missing"),
    "bad-tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "not a readable tokenizer"),
    "no-weights": (lambda f: (f / "model.safetensors").unlink(), r"no \*\.safetensors file"),
    "pickle": (pickle_only, r"Found pytorch_model\.bin: pickle formats can run code"),
    "truncated": (truncate, "not a readable safetensors file"),
    "missing-tensor": (lambda f: rewrite(f, NORM, None), f"tensor {NORM} is missing"),
    "extra-tensor": (lambda f: rewrite(f, "extra.weight", torch.zeros(1)), r"tensor extra\.weight is not part"),
    "misshapen": (lambda f: rewrite(f, NORM, torch.zeros(5)), rf"{NORM} has shape \(5,\), config\.json says \(32,\)"),
    "missing-shard": (
        lambda f: (shard(f), (f / "model-00002-of-00002.safetensors").unlink()),
        "model-00002-of-00002.safetensors: named in",
    ),
}


@pytest.mark.parametrize(("damage", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_a_damaged_folder_is_refused_by_name(folder: Path, damage: Callable[[Path], object], words: str) -> None:
    damage(folder)
    with pytest.raises(UserError, match=words) as caught:
        load_model(folder, spec())
    assert "\n" not in str(caught.value)


def test_a_second_copy_in_another_layout_is_left_alone(folder: Path) -> None:
    save_file({"layers.0.wq": torch.zeros(2)}, folder / "consolidated.safetensors")
    assert load_model(folder, spec()).body.config.num_layers == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [({"weight_map": ["a"]}, "weight_map is not a table"), ({}, "weight_map is not a table")],
    ids=str,
)
def test_an_index_that_is_none_is_refused(folder: Path, content: object, words: str) -> None:
    (folder / INDEX_NAME).write_text(json.dumps(content))
    with pytest.raises(UserError, match=words):
        load_model(folder, spec())


def test_tensors_of_whole_numbers_are_refused(folder: Path) -> None:
    rewrite(folder, NORM, torch.zeros(32, dtype=torch.int8))
    with pytest.raises(UserError, match=rf"tensor {NORM} has dtype I8"):
        load_model(folder, spec())


def test_a_tokenizer_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    larger = write_checkpoint(tmp_path / "larger", vocab_size=62)
    with pytest.raises(UserError, match=r"ids up to 61, the model's vocabulary ends at 60.*model\.tokenizer"):
        load_model(folder, spec(), tokenizer=Folder(larger).tokenizer({}))


def test_a_body_keeps_its_weights_under_yarn(folder: Path) -> None:
    plain = load_model(folder, spec())
    stretched = load_model(folder, spec(), body=with_yarn(plain.body.config, 4.0))
    assert (plain.max_positions, stretched.max_positions) == (512, 2048)
    assert torch.equal(plain.body.lm_head.weight, stretched.body.lm_head.weight)


def test_weights_are_read_one_by_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard(folder)
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0
    tensors = Folder.tensors

    def watched(self: Folder, *arguments: Any) -> Iterator[tuple[str, torch.Tensor]]:
        nonlocal most
        for name, tensor in tensors(self, *arguments):
            alive.append(weakref.ref(tensor))
            most = max(most, sum(reference() is not None for reference in alive))
            yield name, tensor

    monkeypatch.setattr(Folder, "tensors", watched)
    load_model(folder, spec(), dtype="bfloat16")
    assert len(alive) > 20 and most <= 2


def test_a_missing_folder_and_wrong_values(folder: Path) -> None:
    with pytest.raises(UserError, match="no such checkpoint folder"):
        load_model(folder / "nowhere", spec())
    with pytest.raises(UserError, match="dtype=float8"):
        load_model(folder, spec(), dtype="float8")
    from mage.models.diffusion import DiffusionSpec

    with pytest.raises(UserError, match="mask_id=61 is outside the vocabulary of 61 tokens"):
        load_model(folder, DiffusionSpec(block_size=8, mask_id=61, stop_ids=(2,)))
    with pytest.raises(UserError, match="alignment=left"):
        spec(alignment="left")
    with pytest.raises(UserError, match="block_size=0"):
        spec(block_size=0)
    with pytest.raises(UserError, match="also a stop id"):
        DiffusionSpec(block_size=8, mask_id=2, stop_ids=(2,))


def test_content_hash_follows_the_content(folder: Path, tmp_path: Path) -> None:
    def hashed(path: Path) -> str:
        source = Folder(path)
        return content_hash(source, source.tokenizer({}), check_source(source))

    same = write_checkpoint(tmp_path / "again")
    assert hashed(folder) == hashed(same)
    config = json.loads((same / "config.json").read_text())
    (same / "config.json").write_text(json.dumps({**config, "transformers_version": "5"}, indent=4))
    assert hashed(folder) == hashed(same), "layout and surplus keys of config.json change no result"
    (same / "config.json").write_text(json.dumps({**config, "rope_theta": 5e5}))
    assert hashed(folder) != hashed(same)
    (same / "config.json").write_text(json.dumps(config))
    rewrite(same, NORM, torch.full((32,), 0.5))
    assert hashed(folder) != hashed(same)
