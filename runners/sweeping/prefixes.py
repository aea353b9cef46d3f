"""Prefilled prompts: that of the example at hand, and what its prompt has in common with the next ones."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from mage.generation.prefill import Prefix


@dataclass
class HeldPrefix:
    """Holds one prefix at a time: that of the last key that was asked for."""

    _key: Hashable = None
    _prefix: Prefix | None = None

    def get(self, key: Hashable, compute: Callable[[], Prefix]) -> Prefix:
        """Return the prefix of `key`, computed when it is not the one that is held. That goes first, so that memory
        need not have room for both. Its `seconds` are those of its computation.
        """
        if self._prefix is None or key != self._key:
            self.drop()
            self._prefix, self._key = compute(), key
        return self._prefix

    def drop(self) -> None:
        """Give the memory back."""
        self._prefix = self._key = None
