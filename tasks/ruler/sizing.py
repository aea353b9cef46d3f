"""How much haystack a prompt has room for, found with few encodings of long texts."""

from __future__ import annotations

from collections.abc import Callable

STRIDE = 16
"""Units between the first two probes, which say how many tokens a unit takes."""

SHARE = 512
"""A prompt that leaves less than this part of its room, or less than a unit, is long enough."""


def most_units(tokens: Callable[[int], int], room: int, least: int, most: int | None = None) -> int | None:
    """A number of units from `least` to `most` that takes at most `room` tokens, and nearly as many.

    tokens: what a number of units takes, all else included; it grows almost evenly. None when `least` does not fit.
    """
    low, low_cost = least, tokens(least)
    if low_cost > room:
        return None
    high: int | None = None
    guess = least + STRIDE
    for probe in range(1, 100):  # every third step halves what is left, so that this never ends it
        if most is not None:
            guess = min(guess, most)
        if high is not None:
            guess = min(guess, high - 1)
        if guess <= low:
            break
        cost = tokens(guess)
        unit = max((cost - low_cost) / (guess - low), 0.1)
        if cost <= room:
            low, low_cost = guess, cost
        else:
            high = guess
        spare, slack = room - low_cost, max(unit, room / SHARE)
        if spare < slack:
            break
        # In the middle of what is long enough: units differ, and a guess at its end fails half of the time.
        guess = (low + high) // 2 if high is not None and probe % 3 == 0 else low + round((spare - slack / 2) / unit)
        guess = max(guess, low + 1)
    return low
