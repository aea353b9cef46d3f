"""The name of a choice is its own: results of one do not go under the label of another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from run import CONF
from tests.runners.conftest import records

GROUPS = ("model", "method", "task", "decoding", "runner", "tracker", "launcher")
OTHERS = {"method": "quest", "decoding": "threshold", "runner": "latency", "task": "needle", "launcher": "ray"}
OTHERS |= {"tracker": "wandb", "model": "sdar_8b_b32"}
CHOSEN = {"method": "mage", "decoding": "static", "runner": "evaluate", "task": "niah", "launcher": "local"}
CHOSEN |= {"tracker": "none", "model": "tiny"}


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("sign", ["", "+", "++"])
def test_the_name_of_another_choice_is_refused(
    group: str, sign: str, run: Callable[..., int], out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given, other, chosen = f"{sign}{group}.name={OTHERS[group]}", OTHERS[group], CHOSEN[group]
    assert run(given) == 2
    told = f"{given}: a label of the choice {group}={chosen}. Allowed: {group}={other}, for that {group}.\n"
    assert capfd.readouterr().err == told
    assert not out.parent.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["method.name=mine"], "method.name=mine: a label of the choice method=mage. Allowed: mage.\n"),
        (["method=quest", "method.name=mage"], "of the choice method=quest. Allowed: method=mage, for that method.\n"),
        (["-m", "method=mage,quest", "method.name=mage"], "of the choice method=mage,quest. Allowed: method=mage, for"),
        (["-m", "method.name=mage,quest"], "of the choice method=mage. Allowed: method=quest, for that method.\n"),
        (["-m", "+experiment=demo", "method.name=mage"], "Allowed: method=mage, for that method.\n"),
        (["model.name='sdar_8b'"], "of the choice model=tiny. Allowed: model=sdar_8b, for that model.\n"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_what_was_chosen_is_told(
    arguments: list[str], told: str, run: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    printed = capfd.readouterr().err
    assert told in printed and printed.count("\n") == 1


def test_an_own_checkpoint_has_an_own_name(run: Callable[..., int], out: Path) -> None:
    assert run("method=dense", "method.name=dense", "model.name=mine", "examples=1") == 0
    (record,) = records(out).values()
    assert record.labels.model == "mine" and record.labels.method == "dense"


@pytest.mark.parametrize("group", GROUPS)
def test_each_choice_is_named_as_its_file(group: str) -> None:
    for path in (CONF / group).rglob("[!_]*.yaml"):
        choice = path.relative_to(CONF / group).with_suffix("").as_posix()
        assert yaml.safe_load(path.read_text(encoding="utf-8")).get("name", choice) == choice
