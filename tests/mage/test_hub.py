"""Fetching from the hub: what is asked for, what is refused, and what is said when it does not answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import errors
from safetensors.torch import load_file

from mage.errors import UserError
from mage.models.checkpoint import load_model
from mage.models.hub import TOKENIZER_FILES, snapshot
from mage.models.opening import open_source
from tests.mage.test_hub_checkpoints import spec, write

NAMES = ("config.json", "model.safetensors", "tokenizer.json")


class Hub:
    """A hub of one repository, and a cache that can be empty."""

    def __init__(self, folder: Path, files: list[str]) -> None:
        self.folder, self.cached, self.downloads = folder, False, list[dict[str, object]]()
        self.siblings = [SimpleNamespace(rfilename=name, size=10) for name in files]
        self.trouble: Exception | None = None

    def model_info(self, name: str, **options: object) -> SimpleNamespace:
        if self.trouble is not None:
            raise self.trouble
        return SimpleNamespace(sha="c" * 40, siblings=self.siblings)

    def snapshot_download(self, name: str, *, local_files_only: bool = False, **options: object) -> str:
        if not local_files_only:
            self.downloads.append(options)
            self.cached = True
        if not self.cached:
            raise errors.LocalEntryNotFoundError("not in the cache")
        return str(self.folder)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    write(tmp_path / "snapshot", "sdar")
    hub = Hub(tmp_path / "snapshot", [*NAMES, "modeling_sdar.py", "old/model.safetensors", "pytorch_model.bin"])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    return hub


def test_a_hub_name_downloads_no_code_and_no_pickle(hub: Hub) -> None:
    said: list[str] = []
    source = open_source("owner/sdar", say=said.append)
    assert len(load_model(source, spec("sdar")).tokenizer.encode("w3")) == 1
    (line,) = said
    assert line.startswith("model.weights=owner/sdar: downloading 3 files")
    (asked,) = hub.downloads
    assert asked["revision"] is None, "under the name that a run without a network will look for"
    patterns = asked["allow_patterns"]
    assert isinstance(patterns, list) and not any(p.endswith((".py", ".bin", "*")) for p in patterns)
    open_source("owner/sdar", say=said.append)
    assert len(hub.downloads) == len(said) == 1, "what the cache holds is not fetched again"


def gone(kind: type[Exception]) -> Exception:
    response = SimpleNamespace(headers={}, request=None, status_code=404)
    return kind("no", response=response)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (gone(errors.RepositoryNotFoundError), "no such model on the hub"),
        (gone(errors.GatedRepoError), "access is gated"),
        (gone(errors.RevisionNotFoundError), "no such revision"),
        (ConnectionError("Name or service not known\nmore"), "cannot be reached (Name or service not known)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_trouble_with_the_hub_is_one_line(trouble: Exception, words: str, hub: Hub) -> None:
    hub.trouble = trouble
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        open_source("owner/sdar")
    told = str(caught.value)
    assert told.startswith("model.weights=owner/sdar: ") and "\n" not in told and not hub.downloads


def test_without_a_network_the_cache_serves_and_says_so(hub: Hub) -> None:
    hub.cached, hub.trouble = True, ConnectionError("no route")
    said: list[str] = []
    assert snapshot("owner/sdar", None, said.append, field="model.weights") == hub.folder
    assert "the cached commit snapshot is used" in said[0]
    assert snapshot("owner/sdar", "c" * 40, said.append, field="model.weights") == hub.folder
    assert len(said) == 1, "a whole commit hash needs no network"


def unlink(*names: str) -> Callable[[Path], object]:
    return lambda folder: [(folder / name).unlink() for name in names]


def sharded(folder: Path, index: bool) -> None:
    """Two shards, the second of which did not come."""
    (folder / "model.safetensors").unlink()
    shards = ("a.safetensors", "b.safetensors")
    write(folder, "sdar", shards)
    if index:
        weights = {name: shard for shard in shards for name in load_file(folder / shard)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    (folder / shards[1]).unlink()


PARTS: dict[str, Callable[[Path], object]] = {
    "the tokenizer alone": unlink("config.json", "model.safetensors"),
    "no weights": unlink("model.safetensors"),
    "no config": unlink("config.json"),
    "no tokenizer": unlink("tokenizer.json"),
    "a shard of the index": lambda folder: sharded(folder, index=True),
    "a shard without an index": lambda folder: sharded(folder, index=False),
}


@pytest.mark.parametrize("lose", PARTS.values(), ids=PARTS.keys())
def test_what_an_interrupted_download_left_is_fetched_on(lose: Callable[[Path], object], hub: Hub) -> None:
    hub.cached = True
    lose(hub.folder)
    hub.siblings = [SimpleNamespace(rfilename=name, size=10) for name in (*NAMES, "a.safetensors", "b.safetensors")]
    snapshot("owner/sdar", "c" * 40, lambda text: None, field="model.weights")
    assert len(hub.downloads) == 1
    hub.trouble = ConnectionError("no route")
    for revision in ("c" * 40, None):
        with pytest.raises(UserError, match=r"^model\.weights=owner/sdar.*: the cache holds only a part of it, and"):
            snapshot("owner/sdar", revision, lambda text: None, field="model.weights")


def test_shards_without_an_index_serve_when_all_are_there(hub: Hub) -> None:
    hub.cached, hub.trouble = True, ConnectionError("no route")
    (hub.folder / "model.safetensors").unlink()
    write(hub.folder, "sdar", ("a.safetensors", "b.safetensors"))
    assert snapshot("owner/sdar", "c" * 40, lambda text: None, field="model.weights") == hub.folder


def test_a_tokenizer_needs_no_weights(hub: Hub) -> None:
    hub.cached, hub.trouble = True, ConnectionError("no route")
    unlink("config.json", "model.safetensors")(hub.folder)
    wanted = {"field": "model.tokenizer", "patterns": TOKENIZER_FILES}
    assert snapshot("owner/sdar", "c" * 40, lambda text: None, **wanted) == hub.folder
    unlink("tokenizer.json")(hub.folder)
    with pytest.raises(UserError, match="holds only a part of it"):
        snapshot("owner/sdar", "c" * 40, lambda text: None, **wanted)


def test_a_repository_of_pickles_is_refused_before_the_download(hub: Hub) -> None:
    hub.siblings = [file for file in hub.siblings if file.rfilename != "model.safetensors"]
    with pytest.raises(UserError, match="pickle formats can run code"):
        open_source("owner/sdar")
    assert not hub.downloads
