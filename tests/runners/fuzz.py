"""The property of every command line: refused in one line before a model loads, or its cells are computed.

    python -m tests.runners.fuzz --count 10000 --seed 0 [--start N] [--log FILE]

prints each command line that breaks it and how, and a summary at the end; the exit status is 1 if any did.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import runners.sweeping.workbench
from run import CONF, main
from runners.command import command_line
from runners.record import CellRecord
from tests.runners.conftest import write_tiny_checkpoint
from tests.runners.override_sets import OverrideSet, override_set

PATIENCE_S = 60.0  # of processor time for a command line
MEMORY = 12 * 2**30
SIGNALLED = (130, 143)  # somebody wants this to end
LIMITS = ("out_of_memory", "timeout")  # how a cell may fail that was asked for too much


class _HangsError(BaseException):
    """A command line took longer than the patience for it."""


@dataclass(frozen=True)
class Verdict:
    """`kind`: refused, computed, limited (a cell needed more memory or time than there is), or broken; then `told`."""

    kind: str
    told: str = ""


def judge(drawn: OverrideSet, folder: Path) -> Verdict:
    """Give a command line, with its results in `folder`, and say whether the property holds."""
    loads: list[object] = []
    load, output, errors = runners.sweeping.workbench.load_model, io.StringIO(), io.StringIO()
    runners.sweeping.workbench.load_model = lambda *a, **k: loads.append(1) or load(*a, **k)
    arguments = [*drawn.arguments, f"output_dir={folder}", "name=t"]
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            status = command_line(arguments, CONF, main)
    except SystemExit as error:
        return Verdict("broken", f"exited with {error.code}: {errors.getvalue()}")
    except (Exception, _HangsError):
        return Verdict("broken", traceback.format_exc())
    finally:
        runners.sweeping.workbench.load_model = load
    if status in SIGNALLED:
        raise SystemExit(status)
    if status == 2:
        return _refusal(errors.getvalue(), output.getvalue(), folder, bool(loads))
    return _result(status, folder, output.getvalue() + errors.getvalue())


def _refusal(told: str, printed: str, folder: Path, loaded: bool) -> Verdict:
    lines = told.splitlines()
    if len(lines) != 1 or printed:
        return Verdict("broken", f"{len(lines)} lines for a refusal: {told}{printed}")
    if loaded or folder.exists():
        return Verdict("broken", f"refused after a model was loaded or something was written: {told}")
    if not any(text in told for text in ("=", " field", " missing", "/")):
        return Verdict("broken", f"a refusal that names no field: {told}")
    return Verdict("refused", told.strip())


def _result(status: int, folder: Path, told: str) -> Verdict:
    records = [CellRecord.model_validate_json(path.read_bytes()) for path in folder.rglob("record.json")]
    failed = [record for record in records if record.status != "done"]
    for record in failed:
        if record.status not in LIMITS:
            return Verdict("broken", f"{record.name}: {record.status}: {record.error}")
    if failed:
        return Verdict("limited", str(failed[0].error))
    if status or not records:
        return Verdict("broken", f"exit status {status} with {len(records)} records: {told}")
    return Verdict("computed", f"{len(records)} cells")


def expire(number: int, frame: FrameType | None) -> None:
    raise _HangsError


def fuzz(count: int, seed: int, start: int, log: Path | None) -> Counter[str]:
    """Judge the command lines from number `start` to `count`, a line of JSON each in `log`; return how many of each
    kind there were."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGVTALRM, expire)
    kinds: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        checkpoint = write_tiny_checkpoint(Path(place) / "tiny")
        for number in range(start, count):
            drawn = override_set(seed, number, checkpoint)
            folder, began = Path(place) / "out", time.monotonic()
            signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE_S)
            verdict = judge(drawn, folder)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            shutil.rmtree(folder, ignore_errors=True)
            kinds[verdict.kind] += 1
            if verdict.kind == "broken":
                print(
                    f"{number} ({drawn.about}): python run.py {shlex.join(drawn.arguments)}\n{verdict.told}\n",
                    flush=True,
                )
            if log is not None:
                line = {"number": number, "about": drawn.about, "kind": verdict.kind, "told": verdict.told}
                line |= {"seconds": round(time.monotonic() - began, 2), "arguments": drawn.arguments}
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line, ensure_ascii=False) + os.linesep)
    return kinds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--log", type=Path)
    given = parser.parse_args()
    found = fuzz(given.count, given.seed, given.start, given.log)
    print(", ".join(f"{kind}: {number}" for kind, number in sorted(found.items())))
    sys.exit(1 if found["broken"] else 0)
