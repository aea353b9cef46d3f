"""The prefix at hand: one, computed once while it is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from runners.sweeping.prefixes import HeldPrefix


def test_the_same_key_is_computed_once() -> None:
    held, computed = HeldPrefix(), []

    def ask(name: str) -> Any:
        return held.get(name, lambda: computed.append(name) or object())  # type: ignore[arg-type, func-returns-value]

    assert ask("a") is ask("a")
    ask("b")
    ask("a")
    held.drop()
    ask("a")
    assert computed == ["a", "b", "a", "a"]


def test_nothing_is_held_after_a_failure() -> None:
    held = HeldPrefix()
    held.get("a", object)  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        held.get("b", lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    again: list[str] = []
    held.get("a", lambda: again.append("a"))  # type: ignore[arg-type, return-value, func-returns-value]
    assert again == ["a"], "what failed has cost the one before, too"
