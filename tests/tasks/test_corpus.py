"""Where the text of a haystack comes from."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from tasks.corpus import NAMES, SHIPPED, corpus
from tasks.errors import TaskError


def test_the_novels_are_prose_without_traces_of_their_source() -> None:
    novels = corpus("novels")
    assert novels.name == "novels"
    assert 1_000_000 < len(novels.text) < 2_000_000
    assert novels.digest == hashlib.sha256(novels.text.encode()).hexdigest()
    assert "To Sherlock Holmes she is always THE woman. I have seldom heard him mention her" in novels.text
    assert "It is a truth universally acknowledged, that a single man in possession of a good fortune" in novels.text
    assert not re.search(r"[Gg]utenberg|GUTENBERG|http|^Produced by|_", novels.text, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_text_is_attributed(name: str) -> None:
    told = (SHIPPED / name / "ATTRIBUTION.md").read_text()
    files = sorted(file.name for file in (SHIPPED / name).glob("*.txt"))
    assert files == re.findall(r"`(\S+\.txt)`", told)
    assert "public domain" in told


def test_a_folder_is_joined_in_the_order_of_names(tmp_path: Path) -> None:
    for name, text in (("b.txt", "second\r\nline\n"), ("a.txt", "\nfirst é\n"), ("c.txt", " \n"), ("d.md", "not read")):
        (tmp_path / name).write_bytes(text.encode())
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "e.txt").write_text("not read")
    read = corpus(str(tmp_path))
    assert read.text == "first é\n\nsecond\nline"
    assert read.name == tmp_path.name


def test_the_digest_follows_the_text_and_not_the_place(tmp_path: Path) -> None:
    for name, text in (("one", "some text"), ("two", "some text"), ("three", "other text")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(text)
    one, two, three = (corpus(str(tmp_path / name)).digest for name in ("one", "two", "three"))
    assert one == two != three


@pytest.mark.parametrize("source", ["", "novel", "no/such/folder"])
def test_a_missing_folder_is_refused(source: str) -> None:
    with pytest.raises(TaskError, match=r"^task\.haystack='.*': there is no such folder; allowed are novels, novels_"):
        corpus(source)


def test_a_folder_without_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" \n")
    (tmp_path / "b.md").write_text("text")
    with pytest.raises(TaskError, match="the folder holds no text; allowed are novels, novels_train or"):
        corpus(str(tmp_path))


def test_a_file_in_another_encoding_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("fine")
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(TaskError, match=r"latin\.txt cannot be read as UTF-8 text \(.*0xe9") as caught:
        corpus(str(tmp_path))
    assert "\n" not in str(caught.value)
