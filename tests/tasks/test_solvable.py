"""Every example can be answered from its prompt alone, and in one way: a reader that knows only the forms does it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.aggregation import Aggregation
from tasks.generated import GeneratedTask
from tasks.kv_retrieval import KeyValueRetrieval
from tasks.multi_value import MultiValue
from tasks.niah import NeedleInHaystack
from tasks.pointer_chase import PointerChase
from tasks.prompt import assemble
from tasks.task import Tokenizer

BLOCK = 32
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
READ = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def once(pattern: str, text: str) -> dict[str, str]:
    """The pairs that a pattern finds. No key may be found twice."""
    found = re.findall(pattern, text)
    keys = Counter(key for key, _ in found)
    assert max(keys.values()) == 1, keys.most_common(1)
    return dict(found)


def asked(question: str, pattern: str) -> str:
    match = re.search(pattern, question)
    assert match, question
    return match.group(1)


def read_niah(context: str, question: str) -> list[str]:
    facts = once(r"[Tt]he secret passphrase of (\w+) is (\w+) ?\.", context)
    keys = re.findall(r"[A-Z]\w+", asked(question, r"passphrases?(?: of|:) (.*)"))
    return [word for key in keys if key != "Answer" for word in (key, facts[key])]


def read_multi_value(context: str, question: str) -> list[str]:
    codes = once(r"[Tt]he code of (\w+) is ([\w ,]+?) ?\.", context)
    return re.findall(r"\w+", codes[asked(question, r"the code of (\w+)")])


def read_pointer_chase(context: str, question: str) -> list[str]:
    links = once(r"(\w+) leads to (\w+) ?\.", context)
    key = asked(question, r"(?:does|from|after) ([A-Z]\w+) ?(?:lead|\?)")
    path = []
    for _ in range(NUMBERS.index(asked(question, r"(?:after|is) (\w+) steps?")) + 1):
        key = links[key]
        path.append(key)
    return path


def read_aggregation(context: str, question: str) -> list[str]:
    assert "most votes" in question
    (first, most), (_, second) = Counter(re.findall(r"a vote for (\w+) ?\.", context)).most_common(2)
    assert most > second
    return [first]


def read_kv_retrieval(context: str, question: str) -> list[str]:
    pairs = once(r"(\w+) ?: (\w+) ?;", context)
    return [pairs[asked(question, r"value (?:does|of) (\w+)")]]


def some(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


DEPTHS = st.one_of(st.none(), st.lists(st.floats(0, 1), min_size=1, max_size=3))
Reader = Callable[[str, str], list[str]]
Fields = dict[str, Any]
CASES: dict[type[GeneratedTask], tuple[Reader, dict[str, st.SearchStrategy[Any]], Callable[[Fields], int]]] = {
    # What reads it, what its fields may be, how many words of the tiny language its sentences then take.
    NeedleInHaystack: (
        read_niah,
        {"depths": DEPTHS, "needles": some(8, 100), "asked": some(1, 8)},
        lambda f: 8 * f["needles"],
    ),
    MultiValue: (
        read_multi_value,
        {"depths": DEPTHS, "keys": some(1, 10), "values": some(2, 80)},
        lambda f: f["keys"] * (f["values"] + 6),
    ),
    PointerChase: (
        read_pointer_chase,
        {"hops": some(1, 8), "chains": some(1, 20)},
        lambda f: 5 * f["hops"] * f["chains"],
    ),
    Aggregation: (
        read_aggregation,
        {"candidates": some(2, 12), "votes": some(24, 150), "margin": some(1, 12)},
        lambda f: 5 * f["votes"],
    ),
    KeyValueRetrieval: (read_kv_retrieval, {"depths": DEPTHS, "pairs": some(1, 256)}, lambda f: 4 * f["pairs"]),
}
KINDS = pytest.mark.parametrize("kind", CASES, ids=[kind.name for kind in CASES])


def check(task: GeneratedTask, tokenizer: Tokenizer, reader: Reader, seed: int, placement: str) -> None:
    for example in task.examples(tokenizer, 2, seed, BLOCK):
        prompt = assemble(example, tokenizer, BLOCK, placement)
        length = example.labels["length"]
        assert isinstance(length, int)
        context = tokenizer.decode(prompt.tokens[:length])
        question = tokenizer.decode(prompt.tokens[prompt.question_start :])
        answer = " ".join(reader(context, question))
        score = task.score(example, answer)
        assert score.exact, (answer, example.references)
        assert score.value == 1.0
        assert not task.score(example, answer + " more").exact
        assert len(tokenizer.encode(example.references[0])) < example.max_new_tokens


@KINDS
@READ
@given(data=st.data())
def test_tiny(kind: type[GeneratedTask], word_tokenizer: Tokenizer, data: st.DataObject) -> None:
    """From contexts that are full of what they must hold to contexts of little else than filler."""
    reader, strategies, words = CASES[kind]
    chosen = {name: data.draw(strategy, name) for name, strategy in strategies.items()}
    length = (-(-words(chosen) // BLOCK) + data.draw(some(0, 20), "blocks of filler")) * BLOCK
    task = kind(lengths=(length,), mentions=data.draw(st.floats(0, 1), "mentions"), **chosen)
    seed, placement = data.draw(some(0, 2**31), "seed"), data.draw(st.sampled_from(["block", "prefix"]))
    check(task, word_tokenizer, reader, seed, placement)


@KINDS
@pytest.mark.parametrize("name", ["byte_tokenizer", "pair_tokenizer", "unsplit_tokenizer"])
@pytest.mark.parametrize("placement", ["block", "prefix"])
def test_english(kind: type[GeneratedTask], name: str, placement: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(name)
    check(kind(lengths=(4096,), language="english"), tokenizer, CASES[kind][0], 3, placement)
