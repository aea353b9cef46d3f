"""Rows of a closing table and lines of progress that would look alike are told apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from run import CONF
from runners.composition import compose_sweep
from runners.sweeping.plan import plan_sweep
from runners.variants import Variants
from tests.runners.conftest import write_tiny_checkpoint


def titles(checkpoint: Path | str, *overrides: str) -> tuple[list[str], list[str]]:
    """Return the heads of the columns of a sweep and the titles of its cells, in the order of the plan."""
    told = [f"model.weights={checkpoint}", "dense_reference=false", *overrides]
    cells = plan_sweep(compose_sweep(told, CONF, multirun=True)).cells
    variants = Variants(cells)
    return list(variants.columns.values()), [variants.title(cell) for cell in cells]


@pytest.mark.parametrize(
    ("overrides", "heads", "told"),
    [
        (["method=mage,quest", "budget=16,32"], [], ["mage 16 niah", "mage 32 niah", "quest 16 niah", "quest 32 niah"]),
        (["dense_layers=0,1"], ["dense_layers"], ["mage 64 niah dense_layers=0", "mage 64 niah dense_layers=1"]),
        (
            ["decoding=static,threshold"],
            ["decoding"],
            ["mage 64 niah decoding=static", "mage 64 niah decoding=threshold"],
        ),
        (["method=dense,mage", "method=mage", "seed=0,1"], ["seed"], ["mage 64 niah seed=0", "mage 64 niah seed=1"]),
        (["task.question=block,prefix"], ["question"], ["mage 64 niah question=block", "mage 64 niah question=prefix"]),
        (
            ["task.lengths=[2048],[1024,2048]"],
            ["lengths"],
            ["mage 64 niah lengths=[2048]", "mage 64 niah lengths=[1024,2048]"],
        ),
        (["name=a,b"], ["name"], ["mage 64 niah name=a", "mage 64 niah name=b"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_varies_is_shown_and_nothing_else(
    overrides: list[str], heads: list[str], told: list[str], tiny_checkpoint: Path
) -> None:
    assert titles(tiny_checkpoint, *overrides) == (heads, told)


def test_a_method_without_the_option_has_an_empty_place(tiny_checkpoint: Path) -> None:
    _, told = titles(tiny_checkpoint, "method=dense,mage", "dense_layers=0,1")
    assert told == ["dense niah", "mage 64 niah dense_layers=0", "mage 64 niah dense_layers=1"]


def test_checkpoints_of_one_name_are_told_by_their_place(tiny_checkpoint: Path, tmp_path: Path) -> None:
    other = write_tiny_checkpoint(tmp_path / "other", seed=1)
    heads, told = titles(f"{tiny_checkpoint},{other}")
    assert heads == ["weights"]
    assert [title.rpartition("=")[2] for title in told] == [str(tiny_checkpoint), str(other)]


def test_the_table_and_the_progress_show_them(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-m", "method=mage", "dense_layers=0,1", "decoding.tokens_per_step=2,4", "examples=1") == 0
    printed = capsys.readouterr().out
    assert "mage 16 niah tokens_per_step=2 dense_layers=0: score" in printed
    (head,) = (line for line in printed.splitlines() if line.lstrip().startswith("method"))
    assert head.split()[:5] == ["method", "budget", "task", "tokens_per_step", "dense_layers"]
    rows = [line.split()[:5] for line in printed.splitlines() if line.lstrip().startswith("mage")]
    assert len({tuple(row) for row in rows}) == 4
