"""The cache of prefilled prompts: bounded in bytes, and of use to a sweep that walks in circles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runners.prefixes import PrefixCache


@dataclass
class FakePrefix:
    """Stands for a prefix: the cache looks at its size only."""

    nbytes: int


def walk(cache: PrefixCache, scope: str, names: str) -> str:
    """Ask for each name in turn; return the names that had to be computed."""
    computed = ""
    cache.enter(scope)
    for name in names:

        def compute(name: str = name) -> Any:
            nonlocal computed
            computed += name
            return FakePrefix(10)

        cache.get(name, compute)
    return computed


def test_what_fits_is_computed_once() -> None:
    cache = PrefixCache(40)
    assert walk(cache, "niah", "abcd") == "abcd"
    assert walk(cache, "niah", "abcd") == ""


def test_what_does_not_fit_leaves_the_rest_alone() -> None:
    cache = PrefixCache(25)
    assert walk(cache, "niah", "abcd") == "abcd"
    assert walk(cache, "niah", "abcd") == "cd"
    assert walk(cache, "niah", "abcd") == "cd"


def test_what_is_needed_again_at_once_takes_the_place_of_what_came_last() -> None:
    cache = PrefixCache(25)
    computed: list[str] = []

    def ask(name: str, size: int = 10) -> bool:
        def compute() -> Any:
            computed.append(name)
            return FakePrefix(size)

        cache.get(name, compute, at_once=True)
        return cache.holds(name)

    assert all(ask(name) for name in "aabbccaadd")
    assert computed == ["a", "b", "c", "d"], "a stays: it came first"
    assert not ask("huge", 26), "nothing is kept beyond the limit"
    assert cache.holds("a") and cache.holds("d"), "nor dropped for what cannot be kept"
    cache.enter("other")
    assert not cache.holds("a")


def test_another_scope_starts_empty() -> None:
    cache = PrefixCache(40)
    walk(cache, "niah", "abcd")
    assert walk(cache, "votes", "abcd") == "abcd"
    assert walk(cache, "votes", "abcd") == ""


def test_no_memory_means_no_cache() -> None:
    cache = PrefixCache(0)
    assert walk(cache, "niah", "aa") == "aa"
