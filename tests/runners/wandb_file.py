"""Reads a .wandb file back: a 7-byte header, then LevelDB-style records in blocks of 32 KiB, each a protobuf Record."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from wandb.proto import wandb_internal_pb2

BLOCK = 32768
HEADER = 7


@dataclass
class OfflineRun:
    """What an offline run would upload."""

    folder: Path
    id: str = ""
    name: str = ""
    job: str = ""
    group: str = ""
    project: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    artifacts: dict[str, tuple[str, dict[str, int]]] = field(default_factory=dict)
    exit_code: int | None = None

    def table(self, name: str) -> list[dict[str, Any]]:
        """The rows of the table that was logged last under `name`."""
        *_, path = (points[f"{name}.path"] for points in self.history if f"{name}.path" in points)
        table = json.loads((self.folder / "files" / path).read_bytes())
        return [dict(zip(table["columns"], row)) for row in table["data"]]


def read(path: Path) -> OfflineRun:
    """Read one run."""
    run = OfflineRun(path.parent)
    for content in _contents(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.id, run.name, run.job = record.run.run_id, record.run.display_name, record.run.job_type
            run.group, run.project = record.run.run_group, record.run.project
            run.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "summary":
            run.summary |= {item.key: json.loads(item.value_json) for item in record.summary.update}
        elif kind == "history":
            items = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
            points = {key: json.loads(value) for key, value in items.items()}
            run.history.append(_flat(points))
        elif kind == "artifact":
            files = {entry.path: entry.size for entry in record.artifact.manifest.contents}
            run.artifacts[record.artifact.name] = record.artifact.type, files
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def seal(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """No account, no settings and no cache of whoever runs the tests, and nothing sent to anybody."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_DIR", "WANDB_BASE_URL"):
        patch.delenv(name, raising=False)
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        patch.setenv(name, str(folder / "wandb_home"))
    patch.setenv("NETRC", str(folder / "netrc"))
    patch.setenv("WANDB_ERROR_REPORTING", "false")


def _flat(points: dict[str, Any]) -> dict[str, Any]:
    """A table is one value with several parts."""
    flat: dict[str, Any] = {}
    for key, value in points.items():
        flat |= {f"{key}.{part}": inner for part, inner in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _contents(data: bytes) -> list[bytes]:
    contents, parts, position = [], b"", HEADER
    while position + HEADER <= len(data):
        left = BLOCK - position % BLOCK
        if left < HEADER:
            position += left
            continue
        length, kind = struct.unpack("<HB", data[position + 4 : position + HEADER])
        if kind == 0:
            break
        parts += data[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (1, 4):  # full, last
            contents.append(parts)
            parts = b""
    return contents
