"""Facts of daily life, each one sentence with questions and short and long answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tasks.lessons import vocabulary as words
from tasks.lessons.secrets import number


@dataclass(frozen=True)
class Fact:
    """`value` answers any of the `questions` in short, `sentence` in full."""

    statement: str
    questions: tuple[str, ...]
    value: str
    sentence: str


def draw_fact(rng: Random, name: str) -> Fact:
    """A fact about a person."""
    return rng.choice(_FACTS)(rng, name)


def _left_something(rng: Random, name: str) -> Fact:
    thing, room = f"{rng.choice(words.COLORS)} {rng.choice(words.OBJECTS)}", rng.choice(words.ROOMS)
    verb = rng.choice((("left", "leave"), ("hid", "hide"), ("put", "put"), ("found", "find")))
    told = f"{name} {verb[0]} the {thing} in the {room}."
    asked = (
        f"Where did {name} {verb[1]} the {thing}?",
        f"In which place did {name} {verb[1]} the {thing}?",
        f"In the text, where was the {thing}?",
    )
    return Fact(told, asked, rng.choice((f"in the {room}", f"In the {room}", f"the {room}")), told)


def _shopping(rng: Random, name: str) -> Fact:
    first, second, third = rng.sample(words.FOODS, 3)
    items = f"{first}, {second} and {third}"
    told = rng.choice((f"On the shopping list of {name} are {items}.", f"{name} bought {items} at the market."))
    asked = ("What is on the shopping list of {}?", "What did {} write on the shopping list?")
    if "bought" in told:
        asked = ("What did {} buy at the market?", "Which things did {} buy?")
    return Fact(told, tuple(text.format(name) for text in asked), items, told)


def _gate(rng: Random, name: str) -> Fact:
    color, code = rng.choice(words.COLORS), number(rng, 5)
    told = f"The gate of {name} is painted {color} and opens with the code {code}."
    if rng.random() < 0.5:
        return Fact(told, (f"How does the gate of {name} look and open?",), f"{color}, {code}", told)
    asked = (f"Which code opens the gate of {name}?", f"What is the code for the gate of {name}?")
    return Fact(told, asked, code, f"The gate of {name} opens with the code {code}.")


def _job(rng: Random, name: str) -> Fact:
    job, city = rng.choice(words.JOBS), rng.choice(words.CITIES)
    told = f"{name} works as a {job} in {city}."
    if rng.random() < 0.4:
        return Fact(told, (f"Where does {name} work?", f"In which city does {name} work?"), city, told)
    return Fact(told, (f"What is the job of {name}?", f"What does {name} do for a living?"), job, told)


def _pet(rng: Random, name: str) -> Fact:
    animal, called = rng.choice(words.ANIMALS), rng.choice([other for other in words.NAMES if other != name])
    told = f"{name} has a {animal} called {called}."
    if rng.random() < 0.5:
        return Fact(told, (f"What is the {animal} of {name} called?",), called, f"It is called {called}.")
    return Fact(told, (f"Which pet does {name} have?", f"What kind of animal does {name} have?"), f"a {animal}", told)


def _meeting(rng: Random, name: str) -> Fact:
    day, hour, room = rng.choice(words.DAYS), rng.randrange(1, 12), rng.choice(words.ROOMS)
    time = f"{hour}:{rng.choice(('00', '15', '30', '45'))}"
    told = f"{name} will wait in the {room} on {day} at {time}."
    if rng.random() < 0.5:
        asked = (f"When will {name} wait in the {room}?", f"On which day and at what time will {name} wait?")
        return Fact(told, asked, f"{day} at {time}", told)
    return Fact(told, (f"Where will {name} wait?", f"Where will {name} wait on {day}?"), f"in the {room}", told)


def _hobby(rng: Random, name: str) -> Fact:
    hobby = rng.choice(words.HOBBIES)
    told = rng.choice((f"The favorite hobby of {name} is {hobby}.", f"On Sundays {name} enjoys {hobby}."))
    asked = (f"What is the hobby of {name}?", f"What does {name} enjoy?")
    return Fact(told, asked, hobby, told)


def _birthday(rng: Random, name: str) -> Fact:
    day = f"{rng.choice(words.MONTHS)} {rng.randrange(1, 29)}, {rng.randrange(1901, 2012)}"
    told = f"{name} was born on {day}."
    return Fact(told, (f"When was {name} born?", f"What is the birthday of {name}?"), day, told)


def _price(rng: Random, name: str) -> Fact:
    thing, price = f"{rng.choice(words.COLORS)} {rng.choice(words.OBJECTS)}", f"{rng.randrange(12, 980)} dollars"
    told = f"{name} paid {price} for the {thing}."
    return Fact(told, (f"How much did {name} pay for the {thing}?", f"What did the {thing} cost?"), price, told)


def _journey(rng: Random, name: str) -> Fact:
    start, end = rng.sample(words.CITIES, 2)
    by = rng.choice(("by train", "by ship", "by bus", "on foot", "by bicycle", "in a balloon"))
    told = f"{name} traveled from {start} to {end} {by}."
    asked = (f"How did {name} travel, and from where to where?", f"What journey did {name} make?")
    return Fact(told, asked, f"from {start} to {end} {by}", told)


_FACTS: tuple[Callable[[Random, str], Fact], ...] = (
    _left_something,
    _shopping,
    _gate,
    _job,
    _pet,
    _meeting,
    _hobby,
    _birthday,
    _price,
    _journey,
)
