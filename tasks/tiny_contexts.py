"""Training contexts in the tiny language, as token ids: filler with facts of all five forms put in between.

The sentences are those of `tasks.languages.tiny`; this module draws them by the thousand a second, with numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tasks import tiny_words
from tasks.tiny_words import TOKEN_ID

Ids = NDArray[np.int64]

KINDS = ("needle", "code", "link", "vote", "pair")

# How a context is filled: with facts of one kind, or with a mixture of kinds.
FILLINGS = {"mixture": 0.3, "needle": 0.15, "code": 0.17, "link": 0.18, "vote": 0.1, "pair": 0.1}

MENTIONS = 0.1  # share of filler sentences that name a city
MAX_HOPS = 8
MAX_CODE = 80
MAX_CODES = 8
MAX_VOTES = 200
SHARED_WORDS = 0.6  # share of contexts whose codes may have words in common
FILLER_TOKENS = 10


def encode(text: str) -> list[int]:
    """Return the ids of words joined by single spaces."""
    return [TOKEN_ID[word] for word in text.split()]


def _ids(words: Sequence[str]) -> Ids:
    return np.array([TOKEN_ID[word] for word in words], dtype=np.int64)


CITIES, VALUES = _ids(tiny_words.CITIES), _ids(tiny_words.VALUES)
_ADJECTIVES, _NOUNS = _ids(tiny_words.ADJECTIVES), _ids(tiny_words.NOUNS)
_VERBS, _PREPOSITIONS = _ids(tiny_words.VERBS), _ids(tiny_words.PREPOSITIONS)
_THE, _IS, _DOT, _COLON, _SEMICOLON = encode("the is . : ;")
_NEEDLE, _CODE, _VOTE, _LINK = (
    encode(text) for text in ("the secret passphrase of", "the code of", "a vote for", "leads to")
)


@dataclass
class Context:
    """Token ids `[length]` and what they tell. A chain lists the cities on its way, its start included."""

    tokens: Ids = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    needles: list[tuple[int, int]] = field(default_factory=list)
    codes: list[tuple[int, list[int]]] = field(default_factory=list)
    chains: list[list[int]] = field(default_factory=list)
    winner: int | None = None
    pairs: list[tuple[int, int]] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        """The kinds of fact that can be asked for."""
        told = (self.needles, self.codes, self.chains, self.winner is not None, self.pairs)
        return [kind for kind, facts in zip(KINDS, told, strict=True) if facts]


def write_context(rng: np.random.Generator, length: int, code_words: int = 0) -> Context:
    """Draw a context of exactly `length` tokens that tells at least one fact.

    `code_words` above 0 asks for a context of codes of which one has that many words or more.
    """
    while True:
        writer = _Writer(rng, length, code_words)
        if writer.context.kinds:
            return writer.context


def filler(rng: np.random.Generator, tokens: int) -> Ids:
    """Return whole filler sentences, at least `tokens` tokens: `the ADJ NOUN VERB the NOUN PREP the NOUN .`"""
    count = -(-tokens // FILLER_TOKENS)
    rows = np.full((count, FILLER_TOKENS), _THE, dtype=np.int64)
    for column, words in ((1, _ADJECTIVES), (2, _NOUNS), (3, _VERBS), (5, _NOUNS), (6, _PREPOSITIONS), (8, _NOUNS)):
        rows[:, column] = rng.choice(words, count)
    mention = rng.random(count) < MENTIONS
    rows[mention, 8] = rng.choice(CITIES, int(mention.sum()))
    rows[:, 9] = _DOT
    return rows.reshape(-1)


class _Writer:
    """Draws facts until the room is used, then lays their sentences out in filler."""

    def __init__(self, rng: np.random.Generator, length: int, code_words: int) -> None:
        self._rng, self._code_words = rng, code_words
        self.context = Context()
        self._sentences: list[list[int]] = []
        self._cities = rng.permutation(CITIES).tolist()  # no city tells two facts of one context
        kinds, rooms = self._shares(length - FILLER_TOKENS - 2)
        writers: dict[str, Callable[[int], None]] = {
            "needle": self._needles,
            "code": self._codes,
            "link": self._links,
            "vote": self._votes,
            "pair": self._pairs,
        }
        for kind, room in zip(kinds, rooms, strict=True):
            writers[kind](room)
        self._lay_out(length)

    def _shares(self, room: int) -> tuple[list[str], list[int]]:
        filling = str(self._rng.choice(list(FILLINGS), p=list(FILLINGS.values())))
        if self._code_words:
            filling = "code"
        if filling != "mixture":
            return [filling], [room]
        kinds = self._rng.permutation(KINDS)[: int(self._rng.integers(2, len(KINDS) + 1))].tolist()
        shares = self._rng.dirichlet(np.full(len(kinds), 2.0)) * self._rng.uniform(0.4, 1.0)
        return kinds, [int(share * room) for share in shares]

    def _count(self, low: int, high: int) -> int:
        """A number from `low` to `high`: evenly or log-evenly, so that few and many are both common."""
        if self._rng.random() < 0.5:
            return int(self._rng.integers(low, high + 1))
        drawn = round(float(np.exp(self._rng.uniform(np.log(low), np.log(high + 0.49)))))
        return min(max(drawn, low), high)

    def _value(self) -> int:
        return int(self._rng.choice(VALUES))

    def _needles(self, room: int) -> None:
        most = min(room // 8, len(self._cities))
        for _ in range(self._count(1, most) if most else 0):
            city, word = self._cities.pop(), self._value()
            self.context.needles.append((city, word))
            self._sentences.append([*_NEEDLE, city, _IS, word, _DOT])

    def _pairs(self, room: int) -> None:
        most = min(room // 4, len(self._cities))
        for _ in range(self._count(1, most) if most else 0):
            city, word = self._cities.pop(), self._value()
            self.context.pairs.append((city, word))
            self._sentences.append([city, _COLON, word, _SEMICOLON])

    def _codes(self, room: int) -> None:
        """Words differ within a code. Between codes they differ too, or are drawn anew. Often all codes are as long."""
        unused: list[int] | None = None
        if self._rng.random() >= SHARED_WORDS:
            unused = self._rng.permutation(VALUES).tolist()
        least, count = max(4, self._code_words), int(self._rng.integers(1, MAX_CODES + 1))
        alike = None
        if self._rng.random() < 0.5:
            alike = int(self._rng.integers(4, max(5, min(MAX_CODE, room // count - 6) + 1)))
        for _ in range(count):
            most = min(room - 6, MAX_CODE, MAX_CODE if unused is None else len(unused))
            if most < least or not self._cities:
                return
            size = int(self._rng.integers(least, most + 1)) if alike is None else min(max(alike, least), most)
            if unused is None:
                words = self._rng.choice(VALUES, size, replace=False).tolist()
            else:
                words = [unused.pop() for _ in range(size)]
            city = self._cities.pop()
            self.context.codes.append((city, words))
            self._sentences.append([*_CODE, city, _IS, *words, _DOT])
            room -= size + 6
            least = 4

    def _links(self, room: int) -> None:
        """Chains of 1 to 8 links; some are longer than any question follows them."""
        links = self._count(1, min(room // 5, 230)) if room >= 5 else 0
        while links > 0 and len(self._cities) > MAX_HOPS + 5:
            wanted = int(self._rng.integers(1, MAX_HOPS + 1)) + 4 * int(self._rng.random() < 0.2)
            size = min(links, wanted)
            links -= size
            chain = [self._cities.pop() for _ in range(size + 1)]
            self.context.chains.append(chain)
            self._sentences += [[a, *_LINK, b, _DOT] for a, b in pairwise(chain)]

    def _votes(self, room: int) -> None:
        """The winner leads by a third of its votes or more, by at least one."""
        most = min(room // 5, MAX_VOTES)
        if most < 4:
            return
        total = self._count(4, most)
        candidates = min(int(self._rng.integers(3, 13)), total // 2)
        words = self._rng.choice(VALUES, candidates, replace=False).tolist()
        counts = np.sort(self._rng.multinomial(total, self._rng.dirichlet(np.full(candidates, 3.0))))[::-1]
        ceiling = int(counts[0] * 0.7) if counts[0] > 3 else int(counts[0]) - 1
        for word, count in zip(words, [counts[0], *np.minimum(counts[1:], ceiling)], strict=True):
            self._sentences += [[*_VOTE, word, _DOT]] * int(count)
        self.context.winner = words[0]

    def _lay_out(self, length: int) -> None:
        """Put the sentences at random sentence ends of the filler, whose front is cut somewhere."""
        self._rng.shuffle(self._sentences)
        room = length - sum(len(sentence) for sentence in self._sentences)
        cut = int(self._rng.integers(0, FILLER_TOKENS))
        text = filler(self._rng, room + FILLER_TOKENS)[cut : cut + room]
        ends = np.concatenate(([0], np.flatnonzero(text == _DOT) + 1))
        places = np.sort(self._rng.choice(ends, len(self._sentences)))
        pieces: list[Sequence[int] | Ids] = []
        done = 0
        for place, sentence in zip(places, self._sentences, strict=True):
            pieces += [text[done:place], sentence]
            done = place
        pieces.append(text[done:])
        self.context.tokens = np.concatenate(pieces).astype(np.int64)
