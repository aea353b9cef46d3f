"""Tokenizers of three kinds: one token a word, byte-pair encoding (a small one and Qwen's), one token a byte."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from mage.models import vocabulary
from tasks.languages.registry import language_named
from tasks.task import Tokenizer
from tasks.tiny_words import TOKEN_ID, VOCABULARY


class WordTokenizer:
    """The tiny vocabulary. An unknown word is an error, so that no task can leave the language."""

    def encode(self, text: str) -> list[int]:
        return [TOKEN_ID[word] for word in text.split()]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(VOCABULARY[i] for i in ids)


class ByteTokenizer:
    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode()


class PairTokenizer:
    """Byte-pair encoding trained on English filler. `split=False`: tokens run across spaces."""

    def __init__(self, split: bool) -> None:
        self._inner = tokenizers.Tokenizer(models.BPE())
        self._inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split)
        self._inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=1500, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        )
        self._inner.train_from_iterator(language_named("english").filler(Random(1), 1500, 0.1), trainer)

    def encode(self, text: str) -> list[int]:
        return self._inner.encode(text).ids

    def decode(self, ids: Sequence[int]) -> str:
        return self._inner.decode(list(ids))


@pytest.fixture(scope="session")
def word_tokenizer() -> Tokenizer:
    return WordTokenizer()


@pytest.fixture(scope="session")
def byte_tokenizer() -> Tokenizer:
    return ByteTokenizer()


@pytest.fixture(scope="session")
def pair_tokenizer() -> Tokenizer:
    return PairTokenizer(split=True)


@pytest.fixture(scope="session")
def unsplit_tokenizer() -> Tokenizer:
    return PairTokenizer(split=False)


@pytest.fixture(scope="session")
def qwen_tokenizer() -> Tokenizer:
    return vocabulary.qwen(151_669, (151_645,), {})
