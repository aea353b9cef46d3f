"""The digest of a large file is read as seldom as is safe."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from mage.models import digest
from mage.models.digest import file_digest


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose content was read. Files of more than 4 bytes are large."""
    found: list[Path] = []
    read = digest._read
    monkeypatch.setattr(digest, "LARGE", 4)
    monkeypatch.setattr(digest, "_read", lambda file: found.append(file) or read(file))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return found


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_large_file_is_read_once(tmp_path: Path, reads: list[Path]) -> None:
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"weights")
    assert file_digest(file) == file_digest(file) == sha(b"weights")
    assert len(reads) == 1


def test_a_small_file_is_always_read(tmp_path: Path, reads: list[Path]) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(b"{}")
    assert file_digest(file) == file_digest(file) == sha(b"{}")
    assert len(reads) == 2 and not (tmp_path / "cache").exists()


def test_a_changed_file_is_read_again(tmp_path: Path, reads: list[Path]) -> None:
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"weights")
    file_digest(file)
    before = file.stat()
    file.write_bytes(b"WEIGHTS")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert file_digest(file) == sha(b"WEIGHTS")
    assert len(reads) == 2


@pytest.mark.parametrize("content", ["{", "[]", '{"x": 3}'])
def test_a_damaged_cache_is_no_matter(content: str, tmp_path: Path, reads: list[Path]) -> None:
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"weights")
    kept = tmp_path / "cache" / "mage-bench" / "digests.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(content.replace("x", str(file)))
    assert file_digest(file) == sha(b"weights")


def test_a_link_into_the_cache_of_the_hub_is_not_read(tmp_path: Path, reads: list[Path]) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    large, small = sha(b"weights"), "d" * 40  # the etag of a small file is a git hash
    (blobs / large).write_bytes(b"weights")
    (blobs / small).write_bytes(b"{}")
    (snapshot / "model.safetensors").symlink_to(blobs / large)
    (snapshot / "config.json").symlink_to(blobs / small)
    assert file_digest(snapshot / "model.safetensors") == large
    assert not reads
    assert file_digest(snapshot / "config.json") == sha(b"{}")
