"""Where LongBench is read from, and the one line for each thing that can be wrong there."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from tasks import sources
from tasks.errors import TaskError
from tasks.longbench.benchmark import LongBench, LongBenchE
from tasks.task import Tokenizer

ROW: dict[str, Any] = {
    "input": "Who?",
    "context": "Ann met Bob.",
    "answers": ["Paragraph 1"],
    "length": 3,
    "dataset": "hotpotqa",
    "language": "en",
    "all_classes": ["Food"],
    "_id": "a",
}
COMMIT = "0" * 40
GOOD = json.dumps(ROW).encode() + b"\n"

Fake = Callable[[Callable[[str, str], str]], list[tuple[str, str]]]


def changed(**fields: Any) -> bytes:
    return json.dumps({**ROW, **fields}).encode()


def archive(path: Path, content: bytes = GOOD, member: str = "data/hotpotqa.jsonl") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("__MACOSX/data/hotpotqa.jsonl", b"not the data")
        made.writestr(member, content)
    return path


def questions(data: str | Path, tokenizer: Tokenizer, dataset: str = "hotpotqa") -> list[str]:
    return [made.id for made in LongBench(dataset=dataset, data=str(data)).examples(tokenizer, None, 0, 32)]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    """Takes what a download does, given repository and file; returns the list of what was asked for."""
    asked: list[tuple[str, str]] = []

    def install(answer: Callable[[str, str], str]) -> list[tuple[str, str]]:
        def download(repository: str, name: str, *, repo_type: str, revision: str) -> str:
            assert (repo_type, revision) == ("dataset", COMMIT)
            asked.append((repository, name))
            return answer(repository, name)

        known = SimpleNamespace(sha=COMMIT)
        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: known)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        return asked

    sources._download.cache_clear()
    yield install
    sources._download.cache_clear()


def missing(repository: str) -> Exception:
    error = huggingface_hub.errors.RepositoryNotFoundError
    made = error.__new__(error)
    Exception.__init__(made, f"404 for {repository}\nand more")
    return made


@pytest.mark.parametrize("place", ["folder", "data folder", "zip in the folder", "zip", "renamed zip", "file"])
def test_local_places(place: str, tmp_path: Path, byte_tokenizer: Tokenizer) -> None:
    data = tmp_path
    if place == "folder":
        (tmp_path / "hotpotqa.jsonl").write_bytes(GOOD)
    elif place == "data folder":
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "hotpotqa.jsonl").write_bytes(GOOD)
    elif place == "zip in the folder":
        archive(tmp_path / "data.zip")
    elif place == "file":
        data = tmp_path / "hotpotqa.jsonl"
        data.write_bytes(GOOD)
    else:
        data = archive(tmp_path / ("data.zip" if place == "zip" else "longbench.zip"))
    assert questions(data, byte_tokenizer) == ["a"]
    assert LongBench(dataset="hotpotqa", data=str(data)).source == "folder"


def test_the_same_bytes_have_the_same_hash_wherever_they_lie(tmp_path: Path, hub: Fake) -> None:
    (tmp_path / "hotpotqa.jsonl").write_bytes(GOOD)
    zipped = archive(tmp_path / "data.zip")
    hub(lambda repository, name: str(zipped))
    hashes = {LongBench(dataset="hotpotqa", data=data).content_hash for data in ("hub", str(tmp_path), str(zipped))}
    assert len(hashes) == 1


def test_the_hub_is_asked_once(tmp_path: Path, hub: Fake, byte_tokenizer: Tokenizer) -> None:
    path = archive(tmp_path / "data.zip")
    asked = hub(lambda repository, name: str(path))
    for _ in range(3):
        assert questions("hub", byte_tokenizer) == ["a"]
        assert LongBench(dataset="hotpotqa").content_hash
    assert asked == [("THUDM/LongBench", "data.zip")]


def test_the_hubs_other_name_is_tried(tmp_path: Path, hub: Fake, byte_tokenizer: Tokenizer) -> None:
    path = archive(tmp_path / "data.zip")

    def answer(repository: str, name: str) -> str:
        if repository == "THUDM/LongBench":
            raise missing(repository)
        return str(path)

    asked = hub(answer)
    assert questions("hub", byte_tokenizer) == ["a"]
    assert [repository for repository, _ in asked] == ["THUDM/LongBench", "zai-org/LongBench"]


def test_no_network_is_one_line(hub: Fake) -> None:
    def answer(repository: str, name: str) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("cannot find the file.\nCheck your connection.")

    asked = hub(answer)
    with pytest.raises(TaskError) as caught:
        _ = LongBench(dataset="hotpotqa").content_hash
    assert str(caught.value) == (
        "task.data='hub': data.zip of THUDM/LongBench cannot be had: LocalEntryNotFoundError: cannot find the file. "
        "Without the hub, name a folder with hotpotqa.jsonl"
    )
    assert len(asked) == 1


def test_the_cache_serves_while_the_hub_is_silent(
    tmp_path: Path, byte_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive(tmp_path / "data.zip")

    def silent(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    def cached(repository: str, name: str, *, repo_type: str, local_files_only: bool) -> str:
        assert local_files_only
        return str(path)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", silent)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", cached)
    sources._download.cache_clear()
    assert questions("hub", byte_tokenizer) == ["a"]
    sources._download.cache_clear()


def test_a_broken_row_is_told_with_the_hash(tmp_path: Path) -> None:
    (tmp_path / "hotpotqa.jsonl").write_bytes(GOOD + GOOD[:40])
    with pytest.raises(TaskError, match=r"hotpotqa\.jsonl:2"):
        _ = LongBench(dataset="hotpotqa", data=str(tmp_path)).content_hash


def test_no_repository_is_one_line(hub: Fake) -> None:
    def answer(repository: str, name: str) -> str:
        raise missing(repository)

    hub(answer)
    with pytest.raises(TaskError, match=r"data.zip of THUDM/LongBench cannot be had: RepositoryNotFoundError: 404 for"):
        _ = LongBench(dataset="hotpotqa").content_hash


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ("nowhere", "task.data='.*nowhere': there is no such folder; allowed are hub, sample, a folder with hotpotqa"),
        ("", "task.data='.*': the folder has no hotpotqa.jsonl and no data.zip; allowed are hub, sample, a folder"),
    ],
)
def test_missing_places_are_one_line(data: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=line):
        _ = LongBench(dataset="hotpotqa", data=str(tmp_path / data)).content_hash


def test_data_sets_without_a_sample_are_refused() -> None:
    line = (
        "task.data='sample': no sample of {} is shipped, only of hotpotqa, multifieldqa_en, passage_retrieval_en, qmsum"
    )
    with pytest.raises(TaskError, match=line.format("lcc.jsonl")):
        _ = LongBench(dataset="lcc", data="sample").content_hash
    with pytest.raises(TaskError, match=line.format("hotpotqa_e.jsonl")):
        _ = LongBenchE(dataset="hotpotqa", data="sample").content_hash


def test_broken_zips_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    whole = archive(path, GOOD * 50).read_bytes()
    member = b"data/hotpotqa.jsonl"
    spoilt = whole.index(member, whole.index(member) + 1) + len(member) + 9
    for content in (b"", b"no zip", whole[: len(whole) // 2], whole[:spoilt] + b"\xff\xff\xff" + whole[spoilt + 3 :]):
        path.write_bytes(content)
        with pytest.raises(TaskError, match=r"data.zip: not a readable zip file: "):
            _ = LongBench(dataset="hotpotqa", data=str(path)).content_hash
    archive(path, member="data/qmsum.jsonl")
    with pytest.raises(TaskError, match=r"data.zip: the zip file has no lcc.jsonl"):
        _ = LongBench(dataset="lcc", data=str(path)).content_hash


def test_unreadable_files_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "hotpotqa.jsonl").write_bytes(GOOD)
    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(TaskError, match=r"hotpotqa.jsonl: cannot be read: Permission denied$"):
        _ = LongBench(dataset="hotpotqa", data=str(tmp_path)).content_hash


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "not JSON: "),
        (b"\xff\xfe{}", "not JSON: "),
        (b"[" * 100_000, "not JSON: "),
        (b"null", "the field context is missing or no text"),
        (b"[1]", "the field context is missing or no text"),
        (b"{}", "the field context is missing or no text"),
        (changed(input=None), "the field input is missing or no text"),
        (changed(answers="Bob"), "the field answers is missing or no list of texts"),
        (changed(answers=[1]), "the field answers is missing or no list of texts"),
        (changed(answers=[]), "the field answers is empty"),
        (changed(length="3"), "the field length is missing or no whole number"),
        (changed(length=True), "the field length is missing or no whole number"),
        (changed(all_classes="Food"), "the field all_classes is missing or no list of texts"),
        (b'{"context": "\\ud83d", "input": ""}', "the field context has half of a surrogate pair"),
        (changed(answers=["\udc00"]), "the field answers has half of a surrogate pair"),
    ],
)
def test_bad_lines_are_named(line: bytes, problem: str, tmp_path: Path, byte_tokenizer: Tokenizer) -> None:
    (tmp_path / "hotpotqa.jsonl").write_bytes(GOOD + b"\n" + line + b"\n" + GOOD)
    with pytest.raises(TaskError, match=rf"hotpotqa.jsonl:3: {problem}"):
        questions(tmp_path, byte_tokenizer)
    with pytest.raises(TaskError, match=r"data.zip/hotpotqa.jsonl:1: "):
        questions(archive(tmp_path / "data.zip", line), byte_tokenizer)


def test_lines_that_only_some_metrics_need(tmp_path: Path, byte_tokenizer: Tokenizer) -> None:
    (tmp_path / "trec.jsonl").write_bytes(changed(all_classes=None))
    with pytest.raises(TaskError, match=r"trec.jsonl:1: the field all_classes is missing or empty"):
        questions(tmp_path, byte_tokenizer, "trec")
    (tmp_path / "passage_retrieval_en.jsonl").write_bytes(changed(answers=["Paragraph 1", "19"]))
    with pytest.raises(
        TaskError, match=r"passage_retrieval_en.jsonl:1: the field answers has .* every answer must hold"
    ):
        questions(tmp_path, byte_tokenizer, "passage_retrieval_en")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"  \r\n"])
def test_a_file_without_rows_is_refused(content: bytes, tmp_path: Path, byte_tokenizer: Tokenizer) -> None:
    (tmp_path / "hotpotqa.jsonl").write_bytes(content)
    with pytest.raises(TaskError, match=r"hotpotqa.jsonl: the file has no rows"):
        questions(tmp_path, byte_tokenizer)


def test_line_ends_inside_texts_do_not_end_a_row(tmp_path: Path, byte_tokenizer: Tokenizer) -> None:
    row = json.dumps({**ROW, "context": "a\u2028b\u0085c\x0bd"}, ensure_ascii=False).encode()
    (tmp_path / "hotpotqa.jsonl").write_bytes(row + b"\r\n")
    assert questions(tmp_path, byte_tokenizer) == ["a"]


def test_a_changed_file_is_read_again(tmp_path: Path, byte_tokenizer: Tokenizer) -> None:
    path = tmp_path / "hotpotqa.jsonl"
    path.write_bytes(GOOD)
    assert questions(tmp_path, byte_tokenizer) == ["a"]
    path.write_bytes(changed(_id="other"))
    assert questions(tmp_path, byte_tokenizer) == ["other"]
