"""Where files of fixed examples are read from: the hub, a folder or zip of the user, or the sample shipped here."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tasks.errors import TaskError, refused

SAMPLE = Path(__file__).resolve().parent / "data" / "longbench"
TIMEOUT_S = 10  # for the hub to answer


@dataclass(frozen=True)
class HubFile:
    """A file of a data set on the hub. `repositories`: its names there, tried in this order."""

    repositories: tuple[str, ...]
    name: str


@dataclass(frozen=True)
class Location:
    """A file, or the member `member` of the zip `path`. `stamp` changes when the file does."""

    path: Path
    member: str | None
    stamp: tuple[int, int]

    @property
    def label(self) -> str:
        """The place as an error names it."""
        return str(self.path) if self.member is None else f"{self.path}/{self.member}"


def kind_of(data: str) -> str:
    """`hub`, `sample` or `folder`."""
    return data if data in ("hub", "sample") else "folder"


def locate(data: str, name: str, hub: HubFile) -> Location:
    """Find the file `name`: on the hub, in the sample, in the folder `data` (or its data/ or data.zip), or in the zip
    `data`. Raises TaskError with one line for what is not there.
    """
    if data == "hub":
        return _located(_download(hub, name), name)
    if data == "sample":
        if not (SAMPLE / name).is_file():
            shipped = ", ".join(sorted(file.stem for file in SAMPLE.glob("*.jsonl")))
            raise refused("data", data, f"no sample of {name} is shipped, only of {shipped}; allowed are hub, a folder")
        return _located(SAMPLE / name, name)
    given = Path(data).expanduser()
    for path in (given / name, given / "data" / name, given / "data.zip", given):
        if path.is_file() and path.name in (name, "data.zip"):
            return _located(path, name)
    if given.is_file() and given.suffix == ".zip":
        return _located(given, name)
    missing = f"the folder has no {name} and no data.zip" if given.is_dir() else "there is no such folder"
    raise refused("data", data, f"{missing}; allowed are hub, sample, a folder with {name}, or the benchmark's zip")


def read(location: Location) -> bytes:
    """The bytes of a location. Raises TaskError where they cannot be read."""
    try:
        if location.member is None:
            return location.path.read_bytes()
        with zipfile.ZipFile(location.path) as archive:
            for name in archive.namelist():
                if name.rpartition("/")[2] == location.member and not name.startswith("__MACOSX"):
                    return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise TaskError(f"{location.path}: not a readable zip file: {error}") from error
    except OSError as error:
        raise TaskError(f"{location.path}: cannot be read: {error.strerror or error}") from error
    raise TaskError(f"{location.path}: the zip file has no {location.member}")


@lru_cache(maxsize=256)
def digest(location: Location) -> str:
    """SHA-256 of the bytes of a location, as hex digits."""
    return hashlib.sha256(read(location)).hexdigest()


def _located(path: Path, name: str) -> Location:
    status = path.stat()
    return Location(path, None if path.name == name else name, (status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=8)
def _download(hub: HubFile, name: str) -> Path:
    """The file in the hub's local cache, downloaded where it is not there yet."""
    from huggingface_hub.errors import RepositoryNotFoundError

    problem = ""
    for repository in hub.repositories:
        try:
            return _fetched(repository, hub.name)
        except RepositoryNotFoundError as error:
            problem = problem or _reason(error)
        except Exception as error:  # the hub's client raises what its HTTP library and the disk raise
            problem = _reason(error)
            break
    raise refused(
        "data",
        "hub",
        f"{hub.name} of {hub.repositories[0]} cannot be had: {problem}. Without the hub, name a folder with {name}",
    )


def _fetched(repository: str, name: str) -> Path:
    """The newest file that the hub has; the cached one where the hub does not answer."""
    import huggingface_hub

    try:  # asked once and first: a download without a network tries for half a minute
        commit = huggingface_hub.HfApi().dataset_info(repository, timeout=TIMEOUT_S).sha
    except Exception:
        with suppress(huggingface_hub.errors.LocalEntryNotFoundError):
            return Path(huggingface_hub.hf_hub_download(repository, name, repo_type="dataset", local_files_only=True))
        raise
    return Path(huggingface_hub.hf_hub_download(repository, name, repo_type="dataset", revision=commit))


def _reason(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
