"""Tokenizers that take any text: one token a word, one token a byte. Their chat template is a line before and after."""

from __future__ import annotations

from collections.abc import Sequence


class Chat:
    def chat(self, text: str) -> str:
        return f"<user> {text.strip()} <assistant>"


class Words(Chat):
    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._words: list[str] = []

    def encode(self, text: str) -> list[int]:
        for word in text.split():
            if word not in self._ids:
                self._ids[word] = len(self._words)
                self._words.append(word)
        return [self._ids[word] for word in text.split()]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(self._words[i] for i in ids)


class Bytes(Chat):
    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode()
