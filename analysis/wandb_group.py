"""`wandb:entity/project/group`: the records of a group of runs, brought into a folder like those of a sweep."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mage.errors import UserError
from runners.record import EXAMPLES_NAME, RECORD_NAME, CellRecord
from runners.tracking.wandb_artifact import CELL_RECORD
from runners.tracking.wandb_runs import log_in

PREFIX = "wandb:"
FOLDER = Path("outputs/from-wandb")
PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
TIMEOUT_S = 20


def fetch(address: str, folder: Path = FOLDER) -> Path:
    """Download the records and examples of all cells of a group. Returns their folder, below `folder`.

    Where several runs show one cell the finished one counts, or else the latest. Cells that the group no longer has are
    removed from the folder. Raises UserError.
    """
    found = re.fullmatch(rf"{PREFIX}({PART})/({PART})/({PART})", address)
    if not found:
        raise UserError(f"{address}: expected wandb:entity/project/group.")
    entity, project, group = found.groups()
    place = folder / entity / project / group
    arriving = place / ".arriving"
    shutil.rmtree(arriving, ignore_errors=True)
    try:
        records = _download(entity, project, group, arriving)
    except UserError:
        raise
    except Exception as error:  # whatever a server or its client may say
        lines = str(error).strip().splitlines()
        raise UserError(f"{address}: {lines[0] if lines else type(error).__name__}") from error
    if not records:
        raise UserError(f"{address}: no run of this group holds the record of a cell. Runs get theirs as they end.")
    _put_in_place(records, place)
    shutil.rmtree(arriving)
    return place


def _download(entity: str, project: str, group: str, arriving: Path) -> list[tuple[CellRecord, Path]]:
    """Return the record and the folder of each run that has one. Raises what W&B raises."""
    import wandb

    log_in(TIMEOUT_S)
    records = []
    for run in wandb.Api(timeout=TIMEOUT_S).runs(f"{entity}/{project}", filters={"group": group}):
        artifacts = [artifact for artifact in run.logged_artifacts() if artifact.type == CELL_RECORD]
        if artifacts:
            last = max(artifacts, key=lambda artifact: int(artifact.version.removeprefix("v")))
            records.append(_bring(last, arriving / run.id))
    return records


def _bring(artifact: Any, folder: Path) -> tuple[CellRecord, Path]:
    """Download no file but those of a cell."""
    for name in (RECORD_NAME, EXAMPLES_NAME):
        if name in artifact.manifest.entries:
            artifact.get_entry(name).download(root=str(folder), skip_cache=True)
    try:
        record = CellRecord.model_validate_json((folder / RECORD_NAME).read_bytes())
    except ValidationError as error:
        raise UserError(f"{artifact.qualified_name}: {RECORD_NAME} is no record of a cell.") from error
    if not re.fullmatch(PART, record.name):
        raise UserError(f"{artifact.qualified_name}: field name is {record.name!r}, which names no folder.")
    return record, folder


def _put_in_place(records: list[tuple[CellRecord, Path]], place: Path) -> None:
    chosen: dict[str, tuple[CellRecord, Path]] = {}
    for record, folder in sorted(records, key=lambda r: (r[0].status == "done", r[0].environment.finished)):
        chosen[record.name] = record, folder
    for old in place.glob(f"*/{RECORD_NAME}"):
        shutil.rmtree(old.parent)
    for name, (_, folder) in chosen.items():
        os.replace(folder, place / name)
