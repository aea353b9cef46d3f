"""Reads a .wandb file back: a 7-byte header, then LevelDB-style records in blocks of 32 KiB, each a protobuf Record."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK = 32768
HEADER = 7


@dataclass
class OfflineRun:
    """What an offline run would upload."""

    name: str = ""
    group: str = ""
    project: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None


def read(path: Path) -> OfflineRun:
    """Read one run."""
    run = OfflineRun()
    for content in _contents(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.name, run.group, run.project = record.run.display_name, record.run.run_group, record.run.project
            run.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "summary":
            run.summary |= {item.key: json.loads(item.value_json) for item in record.summary.update}
        elif kind == "history":
            points = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            run.history.append(points)
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


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
