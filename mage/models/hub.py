"""Checkpoints of the Hugging Face hub: fetched into its cache, safetensors and text files only, never code."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path

from mage.errors import UserError
from mage.models.folder import INDEX_NAME, SINGLE_NAME, Folder, weight_files
from mage.models.source import check_source

CHECKPOINT_FILES = ("*.safetensors", "*.json", "*.jinja", "merges.txt")
TOKENIZER_FILES = ("tokenizer*.json", "vocab.json", "merges.txt", "added_tokens.json", "chat_template*")
IGNORED_FILES = ("*/*", "consolidated*")  # adapters and conversions in subfolders; a second copy in another layout
TIMEOUT_S = 10


def snapshot(
    name: str,
    revision: str | None,
    say: Callable[[str], None],
    *,
    field: str,
    patterns: Sequence[str] = CHECKPOINT_FILES,
) -> Path:
    """Return the folder in the hub's cache that holds a repository's files, downloaded where they are not there.

    A revision that is a whole commit hash and is in the cache needs no network. For any other the hub is asked once;
    when it does not answer, what the cache holds of the revision serves. What an interrupted download left, or one of
    the tokenizer alone, serves in neither case. say: told one line before a download, and when the cache serves
    unasked. field: named in messages. Raises `UserError` for a repository that does not exist, is gated, has no
    safetensors, or cannot be reached.
    """
    found = _cached(name, revision, patterns)
    cached = found if found is not None and _whole(found, patterns) else None
    if cached is not None and re.fullmatch(r"[0-9a-f]{40}", revision or ""):
        return cached
    at = f"{field}={name}" + (f" at revision {revision}" if revision else "")
    try:
        return _fetched(name, revision, patterns, at, say)
    except UserError:
        raise
    except Exception as error:  # the hub's transport library differs between versions
        refusal = _refusal(error, at)
        if refusal is not None:
            raise refusal from error
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        if cached is not None:
            say(f"{at}: the hub does not answer ({reason}); the cached commit {cached.name[:8]} is used.")
            return cached
        held = "no such folder here" if found is None else "the cache holds only a part of it"
        raise UserError(
            f"{at}: {held}, and the hub cannot be reached ({reason}). Download it on a machine with a "
            f"network (hf download {name}) and name the folder."
        ) from error


def _fetched(name: str, revision: str | None, patterns: Sequence[str], at: str, say: Callable[[str], None]) -> Path:
    import huggingface_hub

    found = huggingface_hub.HfApi().model_info(name, revision=revision, timeout=TIMEOUT_S, files_metadata=True)
    commit = str(found.sha)
    files = {file.rfilename: file.size or 0 for file in found.siblings or [] if _wanted(file.rfilename, patterns)}
    if "*.safetensors" in patterns and not any(file.endswith(".safetensors") for file in files):
        raise UserError(f"{at}: no *.safetensors file; pickle formats can run code and are refused.")
    cached = _cached(name, commit, patterns)
    missing = [size for file, size in files.items() if cached is None or not (cached / file).is_file()]
    if cached is not None and not missing:
        return cached
    say(f"{at}: downloading {len(missing)} files, {sum(missing) / 1e9:.2f} GB, from the hub (commit {commit[:8]}).")
    return Path(  # under the name that was asked for, so that the cache finds it by that name without a network
        huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=list(patterns), ignore_patterns=list(IGNORED_FILES)
        )
    )


def _cached(name: str, revision: str | None, patterns: Sequence[str]) -> Path | None:
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.snapshot_download(
                name,
                revision=revision,
                allow_patterns=list(patterns),
                ignore_patterns=list(IGNORED_FILES),
                local_files_only=True,
            )
        )
    except Exception:  # not there, or no valid name; the kinds differ between versions of the library
        return None


def _whole(folder: Path, patterns: Sequence[str]) -> bool:
    """Whether a snapshot holds all that a model or a tokenizer needs. The library itself cannot always tell."""
    kinds = (("tokenizer.json",), ("vocab.json", "merges.txt"))
    has_tokenizer = any(all((folder / file).is_file() for file in files) for files in kinds)
    if not has_tokenizer or not _wanted("config.json", patterns):
        return has_tokenizer
    try:
        source = Folder(folder)
        weight_files(folder)
        if not any((folder / file).is_file() for file in (INDEX_NAME, SINGLE_NAME)):
            check_source(source)  # shards without an index: only their headers tell whether one is missing
    except UserError:
        return False
    return True


def _wanted(file: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(file, p) for p in patterns) and not any(fnmatch(file, p) for p in IGNORED_FILES)


def _refusal(error: Exception, at: str) -> UserError | None:
    """Return the line for an answer of the hub that no second try would change."""
    from huggingface_hub import errors

    known: tuple[tuple[type[Exception], str], ...] = (  # the first is a kind of the third
        (errors.GatedRepoError, "access is gated. Ask for it on the model's page of the hub, then run hf auth login"),
        (errors.RevisionNotFoundError, "the hub has no such revision"),
        (errors.RepositoryNotFoundError, "no such folder here, no such model on the hub. If private: hf auth login"),
        (errors.HFValidationError, "not a valid hub name"),
    )
    return next((UserError(f"{at}: {told}.") for kind, told in known if isinstance(error, kind)), None)
