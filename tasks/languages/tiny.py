"""The embedded model's language: every word and every mark is one token, all joined by single spaces."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import ClassVar

from tasks import tiny_words
from tasks.languages.language import Language


class Tiny(Language):
    """The forms that the model of mage/checkpoints is trained on. `tokens = len(text.split(" "))`."""

    name = "tiny"
    keys = tiny_words.CITIES
    values = tiny_words.VALUES
    answer_slack: ClassVar[int] = 0

    def filler(self, rng: Random, count: int, mentions: float) -> list[str]:
        """`the ADJ NOUN VERB the NOUN PREP the NOUN .`; in a mention the last NOUN is a key."""
        adjectives = rng.choices(tiny_words.ADJECTIVES, k=count)
        nouns = rng.choices(tiny_words.NOUNS, k=3 * count)
        verbs = rng.choices(tiny_words.VERBS, k=count)
        prepositions = rng.choices(tiny_words.PREPOSITIONS, k=count)
        sentences = []
        for i in range(count):
            a, b, c = nouns[3 * i : 3 * i + 3]
            if rng.random() < mentions:
                c = rng.choice(self.keys)
            sentences.append(f"the {adjectives[i]} {a} {verbs[i]} the {b} {prepositions[i]} the {c} .")
        return sentences

    def needle(self, key: str, value: str) -> str:
        return f"the secret passphrase of {key} is {value} ."

    def needle_question(self, keys: Sequence[str]) -> str:
        if len(keys) == 1:
            return f"what is the secret passphrase of {keys[0]} ? answer :"
        return f"what are the secret passphrases of {' , '.join(keys)} ? answer :"

    def needle_answers(self, pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
        return (" , ".join(f"{key} {value}" for key, value in pairs),)

    def code(self, key: str, values: Sequence[str]) -> str:
        return f"the code of {key} is {' '.join(values)} ."

    def code_question(self, key: str) -> str:
        return f"what is the code of {key} ? answer :"

    def code_answers(self, values: Sequence[str]) -> tuple[str, ...]:
        return (" ".join(values),)

    def link(self, key: str, target: str) -> str:
        return f"{key} leads to {target} ."

    def link_question(self, start: str, hops: int) -> str:
        return f"where is {tiny_words.NUMBERS[hops - 1]} steps after {start} ? answer :"

    def link_answers(self, path: Sequence[str]) -> tuple[str, ...]:
        return (" ".join(path),)

    def vote(self, value: str) -> str:
        return f"a vote for {value} ."

    def vote_question(self) -> str:
        return "which word has the most votes ? answer :"

    def pair(self, key: str, value: str) -> str:
        return f"{key} : {value} ;"

    def pair_question(self, key: str) -> str:
        return f"what is the value of {key} ? answer :"
