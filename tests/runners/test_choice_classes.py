"""A class and a choice that is for another one: the choice that helps is named, whatever label the section has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from mage.errors import UserError
from mage.method import Method
from run import CONF, main
from runners.building import build
from runners.command import command_line


@dataclass(frozen=True)
class Nobodys:
    """A runner that is no choice."""

    def run(self, config: Mapping[str, Any]) -> int:
        return 0


@pytest.mark.parametrize(
    ("target", "advice"),
    [
        ("runner._target_=runners.evaluate.Evaluate", "Add runner=batched or runner=evaluate."),
        ("runner._target_=runners.recall.Recall", "Add runner=recall."),
        ("runner._target_=runners.train_adapter.TrainAdapter", "Add runner=train."),
        (f"runner._target_={__name__}.Nobodys", "Allowed: runners.kernels.Kernels, or another choice of runner."),
    ],
)
def test_for_a_class_that_the_choice_is_not_for_the_one_that_is_is_named(
    target: str, advice: str, run: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("runner=kernels", target) == 2
    assert capfd.readouterr().err == (f"{target}: it has no field contexts, which runner=kernels may set. {advice}\n")


def test_what_is_added_then_helps(run: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> None:
    assert run("+experiment=train/smollm2_135m", "runner=train", "runner.save_every=0") == 2
    assert capfd.readouterr().err.startswith("runner.save_every=0 is out of range.")


@pytest.mark.parametrize(
    "label", ["x" * 400, "../../pyproject", "../task/niah", "../method/quest", "/", ".", "", "a\0"]
)
def test_a_label_is_looked_for_among_the_choices_only(label: str) -> None:
    with pytest.raises(UserError) as refused:
        build("method", {"_target_": "mage.mage.Mage", "name": label, "foo": 1}, Method)
    told = str(refused.value)
    assert told.startswith("method.foo is not a field of the config with method=")


def test_of_a_class_with_many_choices_some_are_named(capfd: pytest.CaptureFixture[str]) -> None:
    given = ["task=niah_grid", "task._target_=tasks.longbench.benchmark.LongBench"]
    assert command_line(given, CONF, main) == 2
    three = " or ".join(f"task=longbench/{name}" for name in ("2wikimqa", "dureader", "gov_report"))
    assert capfd.readouterr().err.endswith(f", which task=niah_grid may set. Add {three} or another of its choices.\n")


def test_a_choice_that_builds_on_another_has_the_class_of_that(capfd: pytest.CaptureFixture[str]) -> None:
    given = ["task=longbench/qasper", "task._target_=tasks.niah.NeedleInHaystack"]
    assert command_line(given, CONF, main) == 2
    told = capfd.readouterr().err
    assert told.startswith("task._target_=tasks.niah.NeedleInHaystack: it has no field ") and told.count("\n") == 1
