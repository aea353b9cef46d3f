"""What a language must be able to say so that the generated tasks can be set in it."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from random import Random
from typing import ClassVar


class Language(ABC):
    """Sentences, questions and answers. A context is sentences joined by single spaces.

    Keys and values are single words. An `answers` method gives the accepted answers, the canonical first.
    """

    name: ClassVar[str]
    keys: tuple[str, ...]
    values: tuple[str, ...]
    answer_slack: ClassVar[int]
    """Tokens that a right answer may take beyond the canonical one."""

    @abstractmethod
    def filler(self, rng: Random, count: int, mentions: float) -> list[str]:
        """`count` sentences that say nothing of any task; a share `mentions` of them names a key."""

    @abstractmethod
    def needle(self, key: str, value: str) -> str: ...

    @abstractmethod
    def needle_question(self, keys: Sequence[str]) -> str: ...

    @abstractmethod
    def needle_answers(self, pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]: ...

    @abstractmethod
    def code(self, key: str, values: Sequence[str]) -> str: ...

    @abstractmethod
    def code_question(self, key: str) -> str: ...

    @abstractmethod
    def code_answers(self, values: Sequence[str]) -> tuple[str, ...]: ...

    @abstractmethod
    def link(self, key: str, target: str) -> str: ...

    @abstractmethod
    def link_question(self, start: str, hops: int) -> str: ...

    @abstractmethod
    def link_answers(self, path: Sequence[str]) -> tuple[str, ...]: ...

    @abstractmethod
    def vote(self, value: str) -> str: ...

    @abstractmethod
    def vote_question(self) -> str: ...

    @abstractmethod
    def pair(self, key: str, value: str) -> str: ...

    @abstractmethod
    def pair_question(self, key: str) -> str: ...

    @cached_property
    def filler_digest(self) -> str:
        """Hex digest of the keys, which filler may name, and of a sample of filler that holds all of its forms."""
        said = [*self.keys, *self.filler(Random(0), 2000, 0.5)]
        return hashlib.sha256("\n".join(said).encode()).hexdigest()
