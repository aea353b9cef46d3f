"""A context of a given number of tokens: filler with sentences put in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import NamedTuple

from tasks.errors import refused
from tasks.languages.language import Language
from tasks.task import Tokenizer

# Filler sentences before anything else. The cut to the exact length falls into them and can so never meet an
# insert: together they hold more tokens than one filler sentence and the error of the estimate.
LEAD = 3

# Rounds of exact counting before giving up. The estimates are calibrated: one or two rounds are the rule.
ROUNDS = 20


@dataclass(frozen=True)
class Insert:
    """A sentence of the context. `depth` 0 is the front, 1 the end, None a random sentence end."""

    text: str
    depth: float | None = None


class _Sentence(NamedTuple):
    text: str
    tokens: float
    filler: bool


class TokenEstimate:
    """Tokens of a sentence from the tokens of its words, each counted once.

    A fixed sample of filler calibrates the sum, for tokenizers that do not split at spaces.
    """

    def __init__(self, tokenizer: Tokenizer, language: Language) -> None:
        self._tokenizer = tokenizer
        self._words: dict[str, int] = {}
        self._ratio = 1.0
        sample = " ".join(language.filler(Random(0), 50, 0.1))
        self._ratio = len(tokenizer.encode(sample)) / self(sample)

    def __call__(self, text: str) -> float:
        known = self._words
        total = 0
        for word in text.split(" "):
            count = known.get(word)
            if count is None:
                count = known[word] = len(self._tokenizer.encode(" " + word))
            total += count
        return total * self._ratio


class Haystack:
    """Builds contexts with one tokenizer in one language. `mentions` is the share of filler that names a key."""

    def __init__(self, tokenizer: Tokenizer, language: Language, mentions: float) -> None:
        self._tokenizer = tokenizer
        self._language = language
        self._mentions = mentions
        self._estimate = TokenEstimate(tokenizer, language)

    def build(self, inserts: Sequence[Insert], length: int, rng: Random) -> str:
        """A text whose last `length` tokens hold every insert whole.

        The cut to `length` tokens falls into the filler at its front: the first tokens of the cut context are
        the rest of a filler sentence, or an insert where the inserts leave no room for filler.
        Raises TaskError when the inserts take more than `length` tokens.
        """
        sentences = [_Sentence(insert.text, self._estimate(insert.text), False) for insert in inserts]
        lead = self._filler(LEAD, rng)
        room = length - sum(sentence.tokens for sentence in sentences) - lead[-1].tokens
        body = self._filler_of(room, rng)
        anywhere = [s for s, insert in zip(sentences, inserts, strict=True) if insert.depth is None]
        body = _scattered(anywhere, body, rng)
        for sentence, insert in zip(sentences, inserts, strict=True):
            if insert.depth is not None:
                _place(sentence, insert.depth, body, length)
        return self._fitted(lead, body, length, rng)

    def padding(self, tokens: int, rng: Random) -> str:
        """Filler of at least `tokens` tokens."""
        sentences = [sentence.text for sentence in self._filler(2, rng)]
        while len(self._tokenizer.encode(" ".join(sentences))) < tokens:
            sentences.append(self._filler(1, rng)[0].text)
        return " ".join(sentences)

    def _filler(self, count: int, rng: Random) -> list[_Sentence]:
        texts = self._language.filler(rng, count, self._mentions)
        return [_Sentence(text, self._estimate(text), True) for text in texts]

    def _filler_of(self, tokens: float, rng: Random) -> list[_Sentence]:
        """As few filler sentences as take `tokens` tokens, by the estimate. None when `tokens` <= 0."""
        chosen: list[_Sentence] = []
        while tokens > 0:
            sentence = self._filler(1, rng)[0]
            chosen.append(sentence)
            tokens -= sentence.tokens
        return chosen

    def _fitted(self, lead: list[_Sentence], body: list[_Sentence], length: int, rng: Random) -> str:
        """Lead and body as text, with filler added or taken away until the cut falls into the lead."""
        lead_tokens = len(self._tokenizer.encode(" ".join(sentence.text for sentence in lead)))
        for _ in range(ROUNDS):
            text = " ".join(sentence.text for sentence in [*lead, *body])
            surplus = len(self._tokenizer.encode(text)) - length
            if 0 <= surplus <= lead_tokens:
                return text
            if surplus < 0:
                body = self._filler_of(lead_tokens / 2 - surplus, rng) + body
                continue
            fillers = [sentence for sentence in body if sentence.filler]
            if not fillers:
                need = length + surplus - lead_tokens
                raise refused("lengths", length, f"what the context must hold takes {need} tokens or more")
            excess = surplus - lead_tokens / 2
            while fillers and excess > 0:
                excess -= fillers[0].tokens
                body.remove(fillers.pop(0))
        raise refused("lengths", length, "no filler of this language fits it with this tokenizer")


def _scattered(inserts: list[_Sentence], filler: list[_Sentence], rng: Random) -> list[_Sentence]:
    """The inserts at random sentence ends of the filler, in random order."""
    order = rng.sample(inserts, len(inserts))
    places = sorted(rng.randrange(len(filler) + 1) for _ in inserts)
    mixed: list[_Sentence] = []
    done = 0
    for place, sentence in zip(places, order, strict=True):
        mixed += [*filler[done:place], sentence]
        done = place
    return mixed + filler[done:]


def _place(sentence: _Sentence, depth: float, body: list[_Sentence], length: int) -> None:
    """Put a sentence at the sentence end nearest to `depth` of a context of `length` tokens."""
    ends = list(accumulate((other.tokens for other in body), initial=0.0))
    start = length - ends[-1] - sentence.tokens
    wanted = depth * (length - sentence.tokens)
    body.insert(min(range(len(ends)), key=lambda i: abs(start + ends[i] - wanted)), sentence)
