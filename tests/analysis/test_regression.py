from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.checkout import current_commit, staleness
from analysis.reference import read_reference
from analysis.regression import main
from mage.errors import UserError
from tests.analysis.synthetic import ENVIRONMENT, example, write_answers, write_cell


def sweep(folder: Path, mage: Callable[[int], bool], *, count: int = 60, budgets: tuple[int, ...] = (32, 64)) -> Path:
    write_answers(folder, "dense", None, lambda i: True, count=count)
    for budget in budgets:
        write_answers(folder, "mage", budget, mage, count=count)
    return folder


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    results = sweep(folder / "sweep", lambda i: i % 10 != 0)
    assert main([str(results), "--against", str(folder / "reference.json"), "--write"]) == 0
    return folder / "reference.json"


def outcome(capsys: pytest.CaptureFixture[str]) -> tuple[list[str], dict[str, Any]]:
    lines = capsys.readouterr().out.splitlines()
    return lines[:-1], json.loads(lines[-1])


def test_the_same_results_pass(reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = sweep(tmp_path, lambda i: i % 10 != 0)
    capsys.readouterr()
    assert main([str(results), "--against", str(reference)]) == 0
    lines, last = outcome(capsys)
    assert lines == []
    counts = {"fell": 0, "failed": 0, "absent": 0, "new": 0, "rose": 0, "held": 3}
    assert last == {"regression": False, **counts, "largest_held_fall": None}


@pytest.mark.parametrize(("lost", "status"), [(3, 0), (4, 1)])
@pytest.mark.parametrize("count", [20, 200])
def test_four_lost_and_none_gained_is_the_smallest_fall_seen(
    lost: int, status: int, count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_answers(tmp_path / "before", "dense", None, lambda i: True, count=count)
    write_answers(tmp_path / "after", "dense", None, lambda i: i >= lost, count=count)
    assert main([str(tmp_path / "after"), "--against", str(tmp_path / "before")]) == status
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "about 4 lost against 0 gained" in " ".join(capsys.readouterr().out.split())


def test_the_largest_fall_among_the_held_cells_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for budget, lost in ((32, 1), (64, 3), (128, 20)):
        write_answers(tmp_path / "before", "mage", budget, lambda i: i != 39)
        write_answers(tmp_path / "after", "mage", budget, lambda i, lost=lost: i >= lost)
    assert main([str(tmp_path / "after"), "--against", str(tmp_path / "before")]) == 1
    lines, last = outcome(capsys)
    cell = "niah mage budget 64 (tiny, static, question=block)"
    told = {"cell": cell, "measure": "exact match", "points": -5.0, "lost": 3, "gained": 1, "n": 40}
    assert last["fell"] == 1 and last["largest_held_fall"] == told
    assert lines[-1].startswith(f"largest fall among the held cells: {cell}: exact match 97.5 -> 92.5 %, -5.0 [")
    assert lines[-1].endswith("points; 3 lost, 1 gained; n=40")


def test_a_planted_drop_fails_and_is_named(reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = sweep(tmp_path, lambda i: i % 10 not in (0, 1))
    assert main([str(results), "--against", str(reference)]) == 1
    lines, last = outcome(capsys)
    assert last["fell"] == 2 and last["held"] == 1
    # 6 of 60 more are wrong, each by half a point of score.
    assert "niah mage budget 32 (tiny, static, question=block): exact match 90.0 -> 80.0 %, -10.0 [" in lines[0]
    assert "; score 95.0 -> 90.0 %, -5.0 [" in lines[0]
    assert lines[0].endswith("points; n=60")


def test_a_fall_of_exact_match_alone_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    write_answers(before, "dense", None, lambda i: i % 2 == 0, score=lambda i: 0.9)
    write_answers(after, "dense", None, lambda i: False, score=lambda i: 0.9)
    assert main([str(after), "--against", str(before)]) == 1
    [line], last = outcome(capsys)
    assert line.startswith("fell   niah dense (tiny, static, question=block): exact match 50.0 -> 0.0 %, -50.0 [")
    assert "score" not in line and last["fell"] == 1


def test_a_fall_of_the_score_alone_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    write_answers(before, "dense", None, lambda i: False, score=lambda i: 0.9)
    write_answers(after, "dense", None, lambda i: False, score=lambda i: 0.1)
    assert main([str(after), "--against", str(before)]) == 1
    [line], _ = outcome(capsys)
    assert "score 90.0 -> 10.0 %" in line and "exact match" not in line


def test_results_of_other_code_are_compared_with_a_note(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(sweep(tmp_path, lambda i: i % 10 != 0)), "--against", str(reference)]) == 0
    commit = current_commit()
    told = f"note: results were made at 0123456789ab, here is {commit[:12]}\n" if commit else ""
    assert capsys.readouterr().err == told


def test_the_note_about_code_is_for_other_commits_and_changed_trees() -> None:
    changed = ENVIRONMENT.model_copy(update={"git_dirty": True})
    assert staleness([ENVIRONMENT], ENVIRONMENT.git_commit) is None
    assert staleness([changed], None) is None
    unknown = ENVIRONMENT.model_copy(update={"git_commit": None})
    assert staleness([unknown], "f" * 40) == f"results were made at an unknown commit, here is {'f' * 12}"
    resumed = ENVIRONMENT.model_copy(update={"earlier_commits": ["e" * 40]})
    told = f"results were made at {'e' * 12}, here is {ENVIRONMENT.git_commit[:12]}"
    assert staleness([resumed], ENVIRONMENT.git_commit) == told
    told = "results were made with uncommitted changes (1 of 2 cells)"
    assert staleness([ENVIRONMENT, changed], ENVIRONMENT.git_commit) == told


def test_noise_inside_the_interval_passes(reference: Path, tmp_path: Path) -> None:
    # One is lost that was right, and one is won that was wrong; then two are lost and none is won.
    assert main([str(sweep(tmp_path / "a", lambda i: i != 1 and i % 20 != 0)), "--against", str(reference)]) == 0
    assert (
        main([str(sweep(tmp_path / "b", lambda i: i not in (1, 2) and i % 10 != 0)), "--against", str(reference)]) == 0
    )


def test_a_tolerated_drop_passes(reference: Path, tmp_path: Path) -> None:
    results = sweep(tmp_path, lambda i: i % 10 not in (0, 1))
    assert main([str(results), "--against", str(reference), "--tolerance", "0.11"]) == 0


def test_a_lower_confidence_fails_sooner(reference: Path, tmp_path: Path) -> None:
    results = sweep(tmp_path, lambda i: i not in (1, 2) and i % 10 != 0)
    assert main([str(results), "--against", str(reference), "--confidence", "0.5"]) == 1


def test_a_rise_passes_and_is_named(reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(sweep(tmp_path, lambda i: True)), "--against", str(reference)]) == 0
    lines, last = outcome(capsys)
    assert last["rose"] == 2
    assert lines[0].startswith("rose ")


def test_a_part_of_the_examples_is_compared_with_their_own(reference: Path, tmp_path: Path) -> None:
    assert main([str(sweep(tmp_path / "a", lambda i: i % 10 != 0, count=20)), "--against", str(reference)]) == 0
    assert main([str(sweep(tmp_path / "b", lambda i: i % 2 != 0, count=20)), "--against", str(reference)]) == 1


def test_too_few_examples_in_common_are_refused(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(sweep(tmp_path, lambda i: True, count=19)), "--against", str(reference)]) == 2
    assert "19 examples in common with the reference, at least 20 are needed" in capsys.readouterr().err


def test_a_cell_that_failed_is_a_regression(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(tmp_path, lambda i: i % 10 != 0, budgets=(32,))
    write_cell(tmp_path, "mage", 64, [], status="out_of_memory", error="no memory")
    assert main([str(tmp_path), "--against", str(reference)]) == 1
    lines, last = outcome(capsys)
    assert last["failed"] == 1
    assert "budget 64" in lines[0] and "out_of_memory" in lines[0]


def test_an_absent_cell_is_listed_and_may_be_allowed(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = sweep(tmp_path, lambda i: i % 10 != 0, budgets=(32, 128))
    assert main([str(results), "--against", str(reference)]) == 1
    lines, last = outcome(capsys)
    assert (last["absent"], last["new"]) == (1, 1)
    assert [line.split()[0] for line in lines] == ["absent", "new"]
    assert main([str(results), "--against", str(reference), "--allow-missing"]) == 0


def test_records_in_a_folder_are_a_reference_too(reference: Path, tmp_path: Path) -> None:
    fresh = sweep(tmp_path, lambda i: i % 2 == 0)
    assert main([str(fresh), "--against", str(reference.parent / "sweep")]) == 1
    assert main([str(fresh), "--against", str(reference.parent)]) == 1


def test_an_id_that_means_another_example_is_refused(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [example(i, True, budget=None, references=["another answer"]) for i in range(60)]
    write_cell(tmp_path, "dense", None, rows)
    assert main([str(tmp_path), "--against", str(reference), "--allow-missing"]) == 2
    assert "example niah-0-00000 is not the one of the reference" in capsys.readouterr().err


def test_nothing_in_common_is_refused(reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_answers(tmp_path, "dense", None, lambda i: True, task="aggregation")
    assert main([str(tmp_path), "--against", str(reference), "--allow-missing"]) == 2
    assert "no cell in common" in capsys.readouterr().err


def test_a_reference_keeps_scores_identity_environment_and_command(reference: Path) -> None:
    written = read_reference(reference)
    assert written.environment.git_commit == "0123456789abcdef"
    assert written.command.startswith("python -m analysis.regression ")
    assert len(written.sets) == 1  # the cells share their examples
    mage = next(cell for cell in written.cells if cell.budget == 32)
    assert mage.scores == [0.5 if i % 10 == 0 else 1.0 for i in range(60)]
    assert mage.exact == [i % 10 != 0 for i in range(60)]
    assert mage.settings["decoding.tokens_per_step"] == "1" and "model.weights" not in mage.settings
    assert len(mage.identity) == 16
    assert sum('"identity":' in line for line in reference.read_text().splitlines()) == 3  # one line a cell


def test_the_command_of_the_sweep_can_be_kept(tmp_path: Path) -> None:
    results = sweep(tmp_path / "sweep", lambda i: True)
    target = tmp_path / "kept"
    target.mkdir()
    arguments = ["--against", str(target), "--write", "--made-by", "python run.py -m +experiment=demo"]
    assert main([str(results), *arguments]) == 0
    assert read_reference(target).command == "python run.py -m +experiment=demo"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("command"), "field command"),
        (lambda c: c["cells"][0].update(scores=[1]), "1 scores for its examples"),
        (lambda c: c["cells"][0].update(exact=[1]), "1 exact for its examples"),
        (lambda c: c["cells"][0].update(examples=7), "names set 7 of 1"),
    ],
)
def test_an_invalid_reference_is_refused(
    reference: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    content = json.loads(reference.read_text())
    change(content)
    (tmp_path / "reference.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        read_reference(tmp_path)


def test_a_missing_reference_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = sweep(tmp_path / "sweep", lambda i: True)
    assert main([str(results), "--against", str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err == f"error: no reference at {tmp_path / 'none.json'}: --write makes one\n"
