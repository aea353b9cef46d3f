"""Text to ids and back, from the tokenizer.json of a checkpoint folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mage.errors import UserError


class Tokenizer:
    """A tokenizer.json. No special tokens are added on encoding; they are left out on decoding."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise UserError(f"{path}: the tokenizer file is missing.")
        from tokenizers import Tokenizer as Backend

        try:
            self._backend = Backend.from_file(str(path))
        except Exception as error:  # the backend raises bare Exception on a malformed file
            raise UserError(f"{path}: not a readable tokenizer: {error}") from error

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`, special tokens left out."""
        return str(self._backend.decode(list(ids), skip_special_tokens=True))
