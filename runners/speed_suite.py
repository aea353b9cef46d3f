"""`python -m runners.speed_suite --out DIR`: all speed benchmarks in one command, on a machine with little more than
torch.

Shapes are those of conf/model, with random weights. What matters most comes first; each result is a record as soon as
it is there, and what the time does not suffice for is named at the end. `python -m analysis DIR` draws the records,
elsewhere. Needs torch, Triton, numpy, safetensors, tokenizers and PyYAML; none of Hydra, pydantic, W&B, pandas.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

from mage.errors import UserError
from runners.environment import ROOT
from runners.speed_matrix import SpeedMatrix


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m runners.speed_suite", description=__doc__)
    parser.add_argument("--out", required=True, help="folder of the records")
    parser.add_argument("--minutes", type=float, default=9.0, help="when to stop beginning anything")
    parser.add_argument(
        "--models",
        type=lambda text: text.split(","),
        default=["fast_dllm_v2_7b", "fast_dllm_v2_1_5b", "sdar_8b_b32"],
        help="choices of conf/model, for their shapes",
    )
    parser.add_argument("--contexts", type=_numbers, default=[131072, 32768, 8192, 65536])
    parser.add_argument("--batches", type=_numbers, default=[1, 8, 4])
    parser.add_argument("--block-size", type=int, default=32)
    parser.add_argument("--budget", type=int, default=512, help="tokens per layer and KV head")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--attention", default="auto", help="auto, torch or triton")
    parser.add_argument("--eager", action="store_true", help="without CUDA graphs")
    parser.add_argument("--conf", default=str(ROOT / "conf"), help="the folder that holds model/")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Return the exit status: 0; 1 where a kernel is wrong or a point failed for another reason than memory; 2 for an
    argument that cannot be served."""
    options, began = _arguments(given), time.monotonic()
    try:
        suite = SpeedMatrix(options)
        suite.run()
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    statuses = [record.status for record in suite.written]
    told = {
        "results": options.out,
        "minutes": round((time.monotonic() - began) / 60, 2),
        "status": {status: statuses.count(status) for status in sorted(set(statuses))},
        "speedup": {f"{r.name}": round(r.metrics["speedup"], 3) for r in suite.written if r.metrics},
        "wrong": suite.wrong,
        "skipped": suite.skipped,
    }
    print(json.dumps(told))
    return int(bool(suite.wrong or set(statuses) - {"done", "out_of_memory"}))


if __name__ == "__main__":
    sys.exit(main())
