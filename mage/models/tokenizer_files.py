"""Tokenizers of checkpoint folders: tokenizer.json, or the vocab.json and merges.txt of Qwen; chat templates."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mage.errors import UserError
from mage.models.bpe import QWEN_SPLIT, Special, byte_level_bpe
from mage.models.chat import ChatTemplate
from mage.models.json_file import read_json
from mage.models.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

CONFIG_NAME = "tokenizer_config.json"
QWEN_CLASSES = ("Qwen2Tokenizer", "Qwen2TokenizerFast")


def read_tokenizer(folder: Path, options: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer of a folder. options: of its chat template.

    Raises `UserError` that names the file which is missing or cannot be read, or whose template is broken.
    """
    file = folder / "tokenizer.json"
    config = _object(folder / CONFIG_NAME)
    if file.is_file():
        from tokenizers import Tokenizer as Library

        try:
            backend = Library.from_file(str(file))
        except Exception as error:  # the library raises bare Exception on a malformed file
            raise UserError(f"{file}: not a readable tokenizer: {error}") from error
        return Tokenizer(backend, _hashed(file), _template(folder, config, options))
    vocab, merges = folder / "vocab.json", folder / "merges.txt"
    if config.get("tokenizer_class") in QWEN_CLASSES and vocab.is_file() and merges.is_file():
        added = folder / "added_tokens.json"
        read = [path for path in (vocab, merges, folder / CONFIG_NAME, added) if path.is_file()]
        backend = _qwen(vocab, merges, config, _object(added))
        return Tokenizer(backend, _hashed(*read), _template(folder, config, options))
    raise UserError(f"{file}: the tokenizer file is missing.")


def _qwen(vocab: Path, merges: Path, config: Mapping[str, Any], added: Mapping[str, Any]) -> Backend:
    try:
        lines = merges.read_text(encoding="utf-8").splitlines()
        pairs = [(first, second) for first, second in (line.split(" ") for line in lines if line[:9] != "#version:")]
        specials = {int(number): (token, False) for token, number in added.items()}
        for number, token in config.get("added_tokens_decoder", {}).items():
            specials[int(number)] = (str(token["content"]), bool(token.get("special", False)))
        found = [Special(number, text, hidden) for number, (text, hidden) in sorted(specials.items())]
        return byte_level_bpe(_object(vocab), pairs, [QWEN_SPLIT], found, nfc=True)
    except UserError:
        raise
    except Exception as error:  # a line without a pair, a pair that is no token
        raise UserError(f"{merges}: not a readable tokenizer: {error}") from error


def _template(folder: Path, config: Mapping[str, Any], options: Mapping[str, Any]) -> ChatTemplate | None:
    """Find the template where transformers does: chat_template.jinja, tokenizer_config.json, chat_template.json."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        try:
            text: object = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{file}: not UTF-8: {error}") from error
    else:
        file, text = folder / CONFIG_NAME, config.get("chat_template")
        if text is None:
            file = folder / "chat_template.json"
            text = _object(file).get("chat_template")
    if isinstance(text, list):  # several templates: transformers takes the one called default
        named = {entry.get("name"): entry.get("template") for entry in text if isinstance(entry, dict)}
        text = named.get("default")
    if text is None:
        return None
    if not isinstance(text, str):
        raise UserError(f"{file}: chat_template is not a text.")
    return ChatTemplate(text, _special_tokens(config), options, str(file))


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """Return `bos_token` and the like: a text, or an object with the text as `content`."""
    found = {}
    for name, token in config.items():
        text = token.get("content") if isinstance(token, dict) else token
        if name.endswith("_token") and isinstance(text, str):
            found[name] = text
    return found


def _object(file: Path) -> dict[str, Any]:
    """Read a JSON object, empty where there is no such file."""
    return read_json(file) if file.is_file() else {}


def _hashed(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}:{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
