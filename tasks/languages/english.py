"""Plain English for models with a real vocabulary, with any tokenizer.

All sentences were written for this project. Keys are invented town names; a question starts on a new
paragraph and ends with `Answer:`.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import ClassVar

from tasks import tiny_words
from tasks.languages.language import Language

VERBS = (
    "watches",
    "follows",
    "paints",
    "carries",
    "opens",
    "builds",
    "finds",
    "keeps",
    "leaves",
    "passes",
    "reaches",
    "shows",
    "takes",
    "visits",
    "breaks",
    "brings",
    "crosses",
    "covers",
    "draws",
    "feeds",
    "guards",
    "holds",
    "joins",
    "lifts",
)

# {a} an adjective, {n} {m} {o} nouns, {v} a verb, {p} a preposition.
TEMPLATES = (
    "The {a} {n} {v} the {m} {p} the {o}.",
    "In the evening the {n} {v} the {a} {m}, and nobody asks why.",
    "Nobody {p} the {n} remembers the {a} {m}.",
    "When the rain stops, the {n} {v} the {m} once more.",
    "It is said that the {a} {n} {v} the {m} before dawn.",
    "They walked past the {n} and the {a} {m} without a word.",
    "At noon the {a} {n} {v} the {m}.",
    "All through the winter the {n} {v} the {m} {p} the {o}.",
    "There was a {n} {p} the {m}, and it was never moved.",
    "She wrote about the {a} {n}, the {m} and the {o}.",
    "He had once owned a {n}, but he sold it for a {a} {m}.",
    "Every morning the {n} {v} the {m}, as it always had.",
    "The children drew the {n} {p} the {a} {m}.",
    "Some people like the {n} better than the {m}.",
    "By the time the {n} {v} the {m}, the day is nearly over.",
    "The wind blew over the {a} {n} and into the {m}.",
    "What the {n} means to the {m} is hard to say.",
    "After supper they spoke of the {n} and the {a} {m}.",
    "The {n} was {a} that year, and so was the {m}.",
    "Once a week the {n} {v} the {a} {m} {p} the {o}.",
)

# {k} a key: sentences that name a town and tell nothing about it.
MENTIONS = (
    "A letter from {k} waits {p} the {n}.",
    "The train to {k} passes the {a} {n}.",
    "Nobody {p} the {n} has ever been to {k}.",
    "They say that the {n} of {k} is {a}.",
    "On the way to {k} the {n} {v} the {m}.",
    "He dreams of {k} and of the {a} {n}.",
)


class English(Language):
    """Sentences of 8 to 15 words. Answers are lists separated by commas."""

    name = "english"
    keys = tiny_words.CITIES
    values = tiny_words.VALUES
    answer_slack: ClassVar[int] = 16

    def filler(self, rng: Random, count: int, mentions: float) -> list[str]:
        sentences = []
        for _ in range(count):
            key = ""
            template = rng.choice(TEMPLATES)
            if rng.random() < mentions:
                template, key = rng.choice(MENTIONS), rng.choice(self.keys)
            n, m, o = rng.choices(tiny_words.NOUNS, k=3)
            adjective, preposition = rng.choice(tiny_words.ADJECTIVES), rng.choice(tiny_words.PREPOSITIONS)
            sentences.append(template.format(a=adjective, n=n, m=m, o=o, v=rng.choice(VERBS), p=preposition, k=key))
        return sentences

    def needle(self, key: str, value: str) -> str:
        return f"The secret passphrase of {key} is {value}."

    def needle_question(self, keys: Sequence[str]) -> str:
        if len(keys) == 1:
            return f"\n\nWhat is the secret passphrase of {keys[0]}?\nAnswer:"
        return f"\n\nGive each town with its secret passphrase: {', '.join(keys)}.\nAnswer:"

    def needle_answers(self, pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
        """For one town the passphrase alone is accepted too."""
        listed = ", ".join(f"{key} {value}" for key, value in pairs)
        return (listed, pairs[0][1]) if len(pairs) == 1 else (listed,)

    def code(self, key: str, values: Sequence[str]) -> str:
        return f"The code of {key} is {', '.join(values)}."

    def code_question(self, key: str) -> str:
        return f"\n\nWhat is the code of {key}?\nAnswer:"

    def code_answers(self, values: Sequence[str]) -> tuple[str, ...]:
        return (", ".join(values),)

    def link(self, key: str, target: str) -> str:
        return f"The road from {key} leads to {target}."

    def link_question(self, start: str, hops: int) -> str:
        steps = f"{tiny_words.NUMBERS[hops - 1]} step{'s' if hops > 1 else ''}"
        return f"\n\nWhere does the road from {start} lead after {steps}? List the towns on the way.\nAnswer:"

    def link_answers(self, path: Sequence[str]) -> tuple[str, ...]:
        return (", ".join(path),)

    def vote(self, value: str) -> str:
        return f"There is a vote for {value}."

    def vote_question(self) -> str:
        return "\n\nWhich word has the most votes?\nAnswer:"

    def pair(self, key: str, value: str) -> str:
        return f"{key}: {value};"

    def pair_question(self, key: str) -> str:
        return f"\n\nWhat is the value of {key}?\nAnswer:"
