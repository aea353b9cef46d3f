"""What RULER's tasks refuse, in one line each."""

from __future__ import annotations

from typing import Any

import pytest

from mage.errors import UserError
from tasks.errors import TaskError
from tests.tasks.prose_tokenizers import Words
from tests.tasks.ruler_tasks import made


@pytest.mark.parametrize(
    ("name", "fields", "line"),
    [
        ("niah_single_1", {"lengths": []}, r"task\.lengths=\[\]: at least one"),
        ("niah_single_1", {"lengths": 0}, r"task\.lengths=0: allowed are whole numbers from 1 to"),
        ("niah_single_1", {"filler": "esay"}, r"task\.filler='esay': .*did you mean 'essay'"),
        ("niah_single_1", {"value_type": "uuid"}, r"task\.value_type='uuid': .*did you mean 'uuids'"),
        ("niah_single_1", {"key_type": "x"}, r"task\.key_type='x': allowed are numbers, uuids, words"),
        ("niah_single_1", {"keys": 41}, r"task\.keys=41: allowed are whole numbers from 1 to 40"),
        ("niah_single_1", {"values": 4, "queries": 11}, r"task\.queries=11: allowed are whole numbers from 1 to 10"),
        ("niah_single_1", {"values": 0}, r"task\.values=0: "),
        ("vt", {"hops": 0}, r"task\.hops=0: "),
        ("vt", {"chains": 0}, r"task\.chains=0: "),
        ("cwe", {"common_repeats": 3}, r"task\.common_repeats=3: .*more than other_repeats"),
        ("fwe", {"alpha": 1.0}, r"task\.alpha=1\.0: "),
        ("fwe", {"lengths": [4096, 249]}, r"task\.lengths=249: allowed are numbers from 250"),
        ("qa_1", {"dataset": "hotpot"}, r"task\.dataset='hotpot': .*did you mean 'hotpotqa'"),
        ("qa_1", {"data": ""}, r"task\.data='': allowed are hub"),
        ("vt", {"length": 4096}, r"task\.length .*task\.lengths"),
    ],
    ids=str,
)
def test_a_field_that_cannot_work_is_refused(name: str, fields: dict[str, Any], line: str) -> None:
    with pytest.raises((TaskError, UserError), match=line) as refusal:
        made(name, **fields)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("count", [0, -1, True])
def test_a_count_that_is_none_is_refused(count: int) -> None:
    with pytest.raises(TaskError, match="examples="):
        made("vt").examples(Words(), count, 0, 32)


def test_a_haystack_that_is_missing_is_refused() -> None:
    with pytest.raises(TaskError, match=r"task\.haystack='nowhere'"):
        made("niah_single_2", haystack="nowhere").examples(Words(), 1, 0, 32)
