"""Scores of predictions."""

from __future__ import annotations

import pytest

from tasks.aggregation import Aggregation
from tasks.kv_retrieval import KeyValueRetrieval
from tasks.multi_value import MultiValue
from tasks.niah import NeedleInHaystack
from tasks.pointer_chase import PointerChase
from tasks.scoring import normalise
from tasks.task import Example, Task

PAIRS = "Alton amber , Barby teal"


def scored(task: Task, prediction: str, *references: str) -> tuple[float, bool]:
    score = task.score(Example("x", "", "", references, 8), prediction)
    return score.value, score.exact


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Alton amber , Barby teal", "alton amber barby teal"),
        ("\n  Alton: AMBER!\nNext question", "alton amber"),
        ("\uff21lton", "alton"),
        ("", ""),
        (" ,.", ""),
    ],
)
def test_normalise(text: str, normal: str) -> None:
    assert normalise(text) == normal


@pytest.mark.parametrize(
    ("prediction", "value", "exact"),
    [
        (PAIRS, 1.0, True),
        ("alton Amber, barby teal.", 1.0, True),
        ("Barby teal , Alton amber", 1.0, False),
        ("Alton amber , Barby rust", 0.5, False),
        ("Alton teal , Barby amber", 0.0, False),
        ("Alton rust , Alton amber , Barby teal", 0.5, False),
        (PAIRS + " , Corby rust", 1.0, False),
        ("amber teal", 0.0, False),
        ("", 0.0, False),
    ],
)
def test_needles(prediction: str, value: float, exact: bool) -> None:
    assert scored(NeedleInHaystack(), prediction, PAIRS) == (value, exact)


def test_a_single_needle_may_be_named_by_its_value() -> None:
    assert scored(NeedleInHaystack(), "amber.", "Alton amber", "amber") == (1.0, True)


@pytest.mark.parametrize(
    ("prediction", "value", "exact"),
    [
        ("red teal rust jade", 1.0, True),
        ("red rust rust jade", 0.75, False),
        ("teal rust jade", 0.0, False),
        ("red teal", 0.5, False),
        ("red teal rust jade jade", 1.0, False),
        ("", 0.0, False),
    ],
)
def test_values_count_at_their_place(prediction: str, value: float, exact: bool) -> None:
    assert scored(MultiValue(), prediction, "red teal rust jade") == (value, exact)


@pytest.mark.parametrize(
    ("prediction", "value", "exact"),
    [
        ("Barby Corby Dunby Elby", 1.0, True),
        ("Barby Alby Dunby Elby", 0.25, False),
        ("Alby Corby Dunby Elby", 0.0, False),
        ("Barby Corby", 0.5, False),
        ("Barby Corby Dunby Elby Farby", 1.0, False),
    ],
)
def test_hops_count_up_to_the_first_mistake(prediction: str, value: float, exact: bool) -> None:
    assert scored(PointerChase(), prediction, "Barby Corby Dunby Elby") == (value, exact)


@pytest.mark.parametrize("task", [Aggregation(), KeyValueRetrieval()], ids=lambda task: str(task.name))
@pytest.mark.parametrize(
    ("prediction", "value", "exact"),
    [("amber", 1.0, True), (" Amber.\nand so on", 1.0, True), ("amber teal", 0.0, False), ("teal", 0.0, False)],
)
def test_one_word(task: Task, prediction: str, value: float, exact: bool) -> None:
    assert scored(task, prediction, "amber") == (value, exact)
