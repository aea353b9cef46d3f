"""Prefilled prompts, kept for the cells of a sweep that have the same prompts and model."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from mage.generation.prefill import Prefix


class PrefixCache:
    """Keeps prefixes of one scope (one model and one set of prompts) up to `limit_bytes`.

    The cells of a sweep walk through the same prompts in the same order. A cache that drops the least recently used
    entry would then drop each one just before it is needed again; this one keeps what came first, and computes the rest
    anew for each cell. What is needed again at once makes room for itself: it takes the place of what came last.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._scope: Hashable = None
        self._entries: dict[Hashable, Prefix] = {}
        self._held = 0

    def enter(self, scope: Hashable) -> None:
        """Begin a cell. Prefixes of another scope are dropped."""
        if scope != self._scope:
            self.clear()
            self._scope = scope

    def get(self, key: Hashable, compute: Callable[[], Prefix], *, at_once: bool = False) -> Prefix:
        """Return the prefix of `key`, computed when it is not held. Its `seconds` are those of its computation.

        at_once: it is needed again before others are.
        """
        held = self._entries.get(key)
        if held is not None:
            return held
        prefix = compute()
        room = self.limit_bytes - prefix.nbytes
        while at_once and room >= 0 and self._held > room:
            self._held -= self._entries.popitem()[1].nbytes
        if self._held <= room:
            self._entries[key] = prefix
            self._held += prefix.nbytes
        return prefix

    def holds(self, key: Hashable) -> bool:
        """Whether the prefix of `key` need not be computed again."""
        return key in self._entries

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()
        self._held = 0
