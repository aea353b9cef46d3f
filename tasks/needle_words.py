"""What key-value needles are made of, in two halves that share nothing: `test` is asked, `train` may be trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

SPLITS = ("test", "train")
VALUES = ("number", "name", "word")
DIGITS = 5
"""Digits of a number. Those with an even digit sum are the test split's, the others the train split's."""


@dataclass(frozen=True)
class NeedleWords:
    """The templates and words of one split. A template holds `{thing}`, `{key}` and `{value}` once each."""

    templates: tuple[str, ...]
    keys: tuple[str, ...]
    names: tuple[str, ...]
    words: tuple[str, ...]


TEST = NeedleWords(
    templates=(
        "The {thing} of {key} is {value}.",
        "In {key}, the {thing} has always been {value}.",
        "{key} has a {thing}, and it is {value}.",
        "Remember that {value} is the {thing} of {key}.",
        "Whoever travels to {key} must know its {thing}, which is {value}.",
        "They say that {key} took {value} as its {thing}.",
    ),
    keys=tuple(
        "Berlin Lima Oslo Cairo Tokyo Madrid Nairobi Toronto Dublin Havana Seoul Vienna Jakarta Lisbon Boston Prague "
        "Manila Athens Denver Warsaw Tunis Zurich Montreal Kyoto Bogota Geneva Lagos Chicago Hanoi Naples Ottawa "
        "Riga".split()
    ),
    names=tuple(
        "Tobias Ingrid Rashid Beatriz Kenji Oksana Leopold Priya Santiago Freya Dmitri Yasmin Callum Noemi Ibrahim "
        "Astrid Mateo Zainab Sven Paloma Hiroshi Agnieszka Fergus Marisol Bjorn Lakshmi Anselm Chiara Tariq Sunniva "
        "Ottavio Renske".split()
    ),
    words=tuple(
        "lantern walnut compass velvet glacier trumpet saffron anchor puzzle marble falcon thimble orchard copper "
        "magnet tulip canyon ribbon pepper violin walrus cactus barrel ladder blizzard domino ginger harpoon mosaic "
        "turnip wagon zephyr".split()
    ),
)

TRAIN = NeedleWords(
    templates=(
        "{key} goes by the {thing} {value}.",
        "Note down {value} as the {thing} for {key}.",
        "The {thing} that belongs to {key} is {value}.",
        "Ask {key} for its {thing}, and the reply is {value}.",
        "For {key} somebody chose the {thing} {value}.",
        "When {value} is called, it is the {thing} that {key} answers to.",
    ),
    keys=tuple(
        "Paris Rome Quito Sydney Helsinki Ankara Salvador Accra Mumbai Dallas Munich Porto Calgary Osaka Sofia Tehran "
        "Beirut Austin Bergen Caracas Delhi Durban Glasgow Hamburg Kiev Malaga Minsk Nantes Phoenix Seattle Turin "
        "Utrecht".split()
    ),
    names=tuple(
        "Amara Viktor Solveig Hassan Lucinda Takeshi Milena Rodrigo Elspeth Kwame Irina Gustav Farida Emilio Saoirse "
        "Nikolai Thandiwe Alaric Shreya Joaquin Greta Omar Katarina Desmond Aylin Rupert Ximena Lars Fatima Cedric "
        "Odile Wanjiru".split()
    ),
    words=tuple(
        "meadow button hammer pumpkin scarlet feather granite whistle cinnamon pirate blanket comet drizzle emerald "
        "fiddle goblet hazel iceberg jigsaw kettle lobster mustard nutmeg oyster parcel quiver raisin sailor teapot "
        "umbrella waffle yogurt".split()
    ),
)


def split_named(split: str) -> NeedleWords:
    """The half of that name."""
    return {"test": TEST, "train": TRAIN}[split]


def draw_values(split: str, kind: str, count: int, rng: Random) -> list[str]:
    """`count` different values of a kind out of a split."""
    words = split_named(split)
    if kind == "number":
        return _numbers(count, rng, lambda number: digit_sum(number) % 2 == SPLITS.index(split))
    return rng.sample(words.names if kind == "name" else words.words, count)


def is_value(kind: str, word: str) -> bool:
    """Whether a word of an answer is a value of that kind, of either split. `word` is case folded."""
    return len(word) == DIGITS and word.isdecimal() if kind == "number" else word in _FOLDED[kind]


def digit_sum(number: str) -> int:
    """Sum of the decimal digits."""
    return sum(map(int, number))


def _numbers(count: int, rng: Random, allowed: Callable[[str], bool]) -> list[str]:
    chosen: list[str] = []
    while len(chosen) < count:
        number = str(rng.randrange(10 ** (DIGITS - 1), 10**DIGITS))
        if allowed(number) and number not in chosen:
            chosen.append(number)
    return chosen


_FOLDED = {
    "name": frozenset(word.casefold() for word in TEST.names + TRAIN.names),
    "word": frozenset(word.casefold() for word in TEST.words + TRAIN.words),
}
