"""Text to ids and back, and the chat template around a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mage.models.chat import ChatTemplate

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend


class Tokenizer:
    """A tokenizer of the `tokenizers` library with a chat template, if it has one.

    No special tokens are added on encoding (a text may hold them, as a chat template does); they are left out on
    decoding. `digest`: hex; changes with anything that changes ids or chats, but for the options of the template.
    """

    def __init__(self, backend: Backend, digest: str, template: ChatTemplate | None = None) -> None:
        self._backend, self._template = backend, template
        self.digest = digest if template is None else f"{digest}+{template.digest}"

    @property
    def size(self) -> int:
        """One more than the largest id."""
        return max(self._backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`, special tokens and ids without a token left out."""
        return str(self._backend.decode(list(ids), skip_special_tokens=True))

    def chat(self, text: str) -> str:
        """Return `text` as the user's turn of the chat template; without a template, the text itself.

        Raises `UserError` when the template refuses it.
        """
        return text if self._template is None else self._template.render(text)
