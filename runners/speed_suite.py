"""`python -m runners.speed_suite --out DIR`: all speed benchmarks in one command, on a machine with little more than
torch.

Shapes are those of conf/model, with random weights. What matters most comes first; each result is a record as soon as
it is there, and what the time does not suffice for is named at the end: the same command goes on with it. `python -m
analysis DIR` draws the records, elsewhere. Needs torch, Triton, numpy, safetensors, tokenizers and PyYAML; none of
Hydra, pydantic, W&B, pandas.
"""

from __future__ import annotations

import faulthandler
import json
import sys
import time
import traceback
from collections.abc import Sequence

from mage.errors import UserError
from runners.speed_matrix import SpeedMatrix
from runners.speed_options import read_options

OVERTIME = 45.0  # seconds behind the last minute, after which a GPU is taken not to come back


def main(given: Sequence[str] | None = None) -> int:
    """Return the exit status: 0; 1 where a kernel is wrong, or a point or the suite failed for another reason than
    memory; 2 for an argument that cannot be served. In all cases but the last one line of JSON closes the output."""
    began, failed = time.monotonic(), None
    try:
        options = read_options(given, __doc__)
        suite = SpeedMatrix(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    if options.device != "cpu" and sys.__stderr__ is not None:  # a kernel that does not end would take all there is
        faulthandler.dump_traceback_later(60 * options.minutes + OVERTIME, exit=True, file=sys.__stderr__)
    try:
        suite.run()
    except (Exception, KeyboardInterrupt) as problem:  # what is written so far is told all the same
        traceback.print_exc()
        failed = f"{type(problem).__name__}: {problem}"
    finally:
        faulthandler.cancel_dump_traceback_later()
    if not (suite.written or suite.kernels or suite.skipped or failed):
        print(f"nothing to do: {options.out} holds all {len(suite.held)} points, and the kernels")
    statuses = [record.status for record in suite.written]
    told = {
        "results": options.out,
        "minutes": round((time.monotonic() - began) / 60, 2),
        "status": {status: statuses.count(status) for status in sorted(set(statuses))},
        "speedup": {f"{r.name}": round(r.metrics["speedup"], 3) for r in suite.written if r.metrics},
        "held": len(suite.held),
        "wrong": suite.wrong,
        "above_roof": suite.above_roof,
        "skipped": suite.skipped,
        "failed": failed,
    }
    print(json.dumps(told))
    return int(bool(failed or suite.wrong or set(statuses) - {"done", "out_of_memory"}))


if __name__ == "__main__":
    sys.exit(main())
