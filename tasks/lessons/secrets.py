"""Secrets: a thing of a key with a value, such as a locker code of a city."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tasks.lessons.vocabulary import CITIES, COLORS, NAMES, PLACES_WITH_NAMES, WORDS
from tasks.lessons.wordings import STATEMENTS
from tasks.needle_words import DIGITS, SPLITS, digit_sum

THINGS = {
    "number": (
        "secret number,locker code,access code,badge number,room number,ticket number,phone extension,account number,"
        "serial number,invoice number,lucky number,flight number,order number,permit number,postal code,gate code,"
        "vault code,member number,secret code,registration number,case number,number,code,PIN,box number,seat number"
    ).split(","),
    "name": (
        "contact,secret name,guide,agent,guardian,code name,patron,caretaker,messenger,translator,inspector,neighbor,"
        "secret friend,doctor"
    ).split(","),
    "word": "secret word,password,watchword,codeword,keyword,passphrase,emblem,nickname,sign,magic word".split(","),
    "pair": "password,secret phrase,passphrase,codeword,nickname,radio call".split(","),
    "hex": "token,session id,license key,tracking id,device id,transaction id,key fingerprint".split(","),
}
"""Things by the kind of value they have; all take an s for several."""

KINDS = tuple(THINGS)
WEIGHTS = (0.56, 0.15, 0.15, 0.09, 0.05)


@dataclass(frozen=True)
class Secret:
    """`kind` names what the value is, in words a question can use."""

    thing: str
    key: str
    value: str
    kind: str

    def statement(self, rng: Random) -> str:
        """One sentence that tells the secret."""
        told = rng.choice(STATEMENTS).format(thing=self.thing, key=self.key, value=self.value)
        return told[0].upper() + told[1:]


def draw_kind(rng: Random) -> str:
    """A kind of value."""
    return rng.choices(KINDS, WEIGHTS)[0]


def draw_things(rng: Random, kind: str, count: int) -> list[str]:
    """Different things with values of a kind."""
    return rng.sample(THINGS[kind], count)


def draw_keys(rng: Random, count: int) -> list[str]:
    """Different keys, all of one sort or mixed."""
    sort = rng.random()
    if sort < 0.45:
        return rng.sample(CITIES, count)
    if sort < 0.8:
        return rng.sample(NAMES, count)
    if sort < 0.9:
        return rng.sample(PLACES_WITH_NAMES, count)
    return rng.sample(CITIES + NAMES + PLACES_WITH_NAMES, count)


def draw_values(rng: Random, kind: str, count: int) -> list[str]:
    """Different values of a kind; numbers all have the same length or not."""
    digits = rng.choices((5, 3, 4, 6, 7), (60, 10, 10, 10, 10))[0]
    values: list[str] = []
    while len(values) < count:
        value = _value(rng, kind, digits)
        if value not in values:
            values.append(value)
    return values


def number(rng: Random, digits: int) -> str:
    """A number that the test needles never have: one of another length, or of the train split's digit sums."""
    while True:
        drawn = str(rng.randrange(10 ** (digits - 1), 10**digits))
        if digits != DIGITS or digit_sum(drawn) % 2 == SPLITS.index("train"):
            return drawn


def _value(rng: Random, kind: str, digits: int) -> str:
    if kind == "number":
        return number(rng, digits)
    if kind == "name":
        return rng.choice(NAMES)
    if kind == "word":
        return rng.choice(WORDS)
    if kind == "pair":
        first = rng.choice(COLORS if rng.random() < 0.5 else WORDS)
        return first + rng.choice((" ", " ", "-")) + rng.choice(WORDS)
    drawn = f"{rng.getrandbits(128):032x}"
    if rng.random() < 0.25:
        return "-".join((drawn[:8], drawn[8:12], drawn[12:16], drawn[16:20], drawn[20:]))
    return drawn[: rng.choice((6, 8, 8, 12))]
