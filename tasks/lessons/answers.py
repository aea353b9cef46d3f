"""How an answer is put: values alone, lists, sentences."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

SINGLE = ("value", "stopped", "sentence", "according", "bold", "quoted", "it_is")
SINGLE_WEIGHTS = (0.3, 0.15, 0.33, 0.08, 0.04, 0.03, 0.07)
SETTLED = ("value", "sentence")
SETTLED_WEIGHTS = (0.3, 0.7)
SEVERAL = ("comma", "and", "lines", "numbered", "named", "sentences")
SEVERAL_WEIGHTS = (0.36, 0.12, 0.12, 0.18, 0.12, 0.1)

_ACCORDING = ("According to the text, ", "Based on the text, ", "The text says that ", "In the text, ")
_LEADS = ("Here they are:", "The answer is:", "The list:")


def single(rng: Random, style: str, value: str, sentence: str) -> str:
    """An answer of one value; `sentence` says it in full."""
    if style == "value":
        return value
    if style == "stopped":
        return value[0].upper() + value[1:] + "."
    if style == "according":
        return rng.choice(_ACCORDING) + uncapitalised(sentence)
    if style == "bold":
        return f"**{value}**"
    if style == "quoted":
        return f'"{value}"'
    if style == "it_is":
        return rng.choice(("It is {}.", "The answer is {}.", "Answer: {}", "The answer is: {}")).format(value)
    return sentence


def several(
    rng: Random,
    style: str,
    values: Sequence[str],
    names: Sequence[str],
    sentences: Sequence[str],
    settled: bool = False,
) -> str:
    """An answer of several values; `names` say whose each is, `sentences` say each in full. settled: without the
    variations that a style leaves open."""
    if settled:
        return _settled(style, values, names, sentences)
    if style == "comma":
        return ", ".join(values) + rng.choice(("", "", "."))
    if style == "and":
        return listed(values) + rng.choice(("", "."))
    if style == "sentences":
        return rng.choice((" ", "\n")).join(sentences)
    if style == "numbered":
        lines = [f"{index}. {value}" for index, value in enumerate(values, 1)]
    elif style == "named":
        lines = [f"{name}: {value}" for name, value in zip(names, values, strict=True)]
        mark = rng.choice(("", "", "- "))
        lines = [mark + line for line in lines]
    else:
        mark = rng.choice(("", "", "- ", "* "))
        lines = [mark + value for value in values]
    lead = rng.choice(_LEADS) + "\n" if rng.random() < 0.12 else ""
    return lead + "\n".join(lines)


def _settled(style: str, values: Sequence[str], names: Sequence[str], sentences: Sequence[str]) -> str:
    if style == "comma":
        return ", ".join(values)
    if style == "and":
        return listed(values)
    if style == "sentences":
        return " ".join(sentences)
    if style == "named":
        values = [f"{name}: {value}" for name, value in zip(names, values, strict=True)]
    elif style == "numbered":
        values = [f"{index}. {value}" for index, value in enumerate(values, 1)]
    return "\n".join(values)


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def uncapitalised(sentence: str) -> str:
    """A sentence to go on with: a leading article loses its capital."""
    first, space, rest = sentence.partition(" ")
    return (first.lower() if first in ("The", "On", "It") else first) + space + rest
