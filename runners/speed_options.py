"""The command line of `python -m runners.speed_suite`: what cannot be served is refused in one line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import NoReturn

import torch

from mage.errors import UserError, unknown_choice
from mage.models.checkpoint import DTYPES
from runners.environment import ROOT
from runners.writing import check_writable

LONGEST = 1e5  # minutes: a timer counts no further than it likes


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text} is not allowed. Allowed: integers, with commas between them."
        ) from None


def read_options(given: Sequence[str] | None, description: str | None) -> argparse.Namespace:
    """Return the options of the command line (None: of this process). Raises `UserError`."""
    parser = _Parser(prog="python -m runners.speed_suite", description=description)
    parser.add_argument("--out", required=True, help="folder of the records; what it holds is not timed again")
    parser.add_argument("--minutes", type=float, default=9.0, help="in which all is to be done")
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
    parser.add_argument(
        "--fuse-commit",
        action="store_true",
        help="a block's commit in one forward with the next one's exact first step",
    )
    parser.add_argument("--conf", default=str(ROOT / "conf"), help="the folder that holds model/")
    options = parser.parse_args(given)
    _check(options)
    return options


def _check(options: argparse.Namespace) -> None:
    check_writable(options.out, "", "--out")
    if not 0 < options.minutes <= LONGEST:
        raise UserError(f"--minutes={options.minutes:g} is out of range. Allowed: above 0, up to {LONGEST:g}.")
    for name in ("block_size", "budget", "rounds"):
        if (value := getattr(options, name)) < 1:
            raise UserError(f"--{name.replace('_', '-')}={value} is out of range. Allowed: integers >= 1.")
    if min(options.batches) < 1:
        raise UserError(f"--batches: {min(options.batches)} is out of range. Allowed: integers >= 1.")
    for context in options.contexts:
        if context < 1 or context % options.block_size:
            allowed = f"multiples of --block-size={options.block_size}"
            raise UserError(f"--contexts: {context} is not allowed. Allowed: {allowed}.")
    if options.dtype not in DTYPES:
        raise unknown_choice("--dtype", options.dtype, DTYPES)
    _check_device(options.device)


def _check_device(name: str) -> None:
    if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", name):
        raise UserError(f"--device={name}: not a device. Allowed: cpu, cuda, cuda:N.")
    if name == "cpu":
        return
    if not torch.cuda.is_available():
        raise UserError(f"--device={name}: no CUDA device, or a torch without CUDA. Allowed: cpu.")
    index, count = torch.device(name).index or 0, torch.cuda.device_count()
    if index >= count:
        raise UserError(f"--device={name}: no such device. Allowed: cpu, cuda, cuda:0 to cuda:{count - 1}.")
