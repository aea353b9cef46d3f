"""A line of examples.jsonl that does not fit its schema is refused, down to the rows of recall."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from mage.generation.recall_row import RecallRow
from runners.record import RecallResult
from tests.runners.conftest import ROOT

ROW = RecallRow(block=1, step=2, layer=3, recall=0.5, mass_captured=0.75, oracle_mass=0.25)
RESULT = RecallResult(id="e", prefix_tokens=64, budget_tokens=8, rows=[ROW])


def test_what_is_written_is_read_back() -> None:
    assert RecallResult.model_validate_json(RESULT.model_dump_json()).rows == [ROW]


def test_lines_from_before_there_was_evidence_are_read() -> None:
    told = json.loads(RESULT.model_dump_json())
    row = told["rows"][0]
    assert told.pop("evidence_tokens") == 0
    assert [row.pop(f"evidence_{part}") for part in ("mass", "held", "oracle")] == [None] * 3
    assert RecallResult.model_validate(told) == RESULT


@pytest.mark.parametrize("change", [{"recal": 1.0}, {"recall": float("nan")}, {"layer": None}, {"layer": 1.5}])
def test_a_row_of_recall_is_validated(change: dict[str, float | None]) -> None:
    told = json.loads(RESULT.model_dump_json())
    told["rows"][0].update(change)
    with pytest.raises(ValidationError):
        RecallResult.model_validate(told)


def test_reading_records_needs_no_torch() -> None:
    code = "import sys, runners.record; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
