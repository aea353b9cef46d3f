"""The kernels of the speed suite: checked and timed at one context of a model, left in a file of their own."""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from mage.attention.operations import Operations
from mage.budget import Budget
from mage.models.checkpoint import DTYPES
from mage.models.families.registry import body_config
from mage.timing.kernel_cases import KERNELS
from mage.timing.kernel_name import kernel_name
from mage.timing.kernel_report import report_kernels
from mage.timing.kernel_shape import KernelShape
from mage.timing.roofs import Roofs
from runners.environment import facts, now
from runners.plain_record import write_json
from runners.random_model import RandomModel
from runners.speed_earlier import Earlier
from runners.speed_point import FIRST_BATCHES


class KernelsFound(NamedTuple):
    """What a file of kernels tells: the names of those that are wrong, and of timings above their roof. `roofs`: those
    that were measured with it, if now."""

    wrong: list[str]
    above_roof: list[str]
    roofs: Roofs | None = None


class SuiteKernels:
    """The kernels of `ours` at the shape of a model, at its first context: of one row, and of as many as the second of
    the batches. They need no weights."""

    def __init__(self, options: argparse.Namespace, shape: RandomModel, ours: Operations) -> None:
        """options: of `runners.speed_options`."""
        self._options, self._ours = options, ours
        batches = sorted({1, *options.batches[:FIRST_BATCHES]})
        self._shapes = [
            KernelShape(
                body=body_config(shape.choice["body"]),
                block_size=options.block_size,
                context=options.contexts[0],
                batch=batch,
                budget=Budget(options.budget),
            )
            for batch in batches
        ]
        # All that is asked for: what was timed under other options stays.
        sizes = f"context{options.contexts[0]}_batch{'+'.join(map(str, batches))}"
        sizes += f"_block{options.block_size}_budget{options.budget}"
        self._path = Path(options.out) / f"kernels_{shape.name}_{ours.name}_{options.dtype}_{sizes}.json"
        self._asked = {
            "runner": "kernels",
            "model": shape.name,
            "dtype": options.dtype,
            "block_size": options.block_size,
            "budget": options.budget,
            "page_size": self._shapes[0].page_size,
            "context": options.contexts[0],
        }

    def held(self, earlier: Earlier) -> KernelsFound | None:
        """Return what a file tells that holds all of what is asked for; None where there is none."""
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            held = json.loads(self._path.read_text(encoding="utf-8"))
            timings = held["timings"]
            tried = {f"{t['context']}x{t['batch']}" for t in timings} | set(held["too_large"])
            whole = bool(held["too_large"]) or {t["kernel"] for t in timings} >= KERNELS.keys()
            same = all(held[key] == value for key, value in self._asked.items())
            wanted = {f"{shape.context}x{shape.batch}" for shape in self._shapes}
            if same and whole and tried >= wanted and earlier.is_alike(held["environment"]):
                above = [t for t in timings if t["share"] is not None and t["share"] > 1]
                names = [kernel_name(t["kernel"], t["implementation"], t["context"], t["batch"]) for t in above]
                return KernelsFound(list(held["wrong"]), names)
        return None

    def time(self) -> KernelsFound:
        """Check and time them, and write what they gave. Raises what a device raises that does not work."""
        device, dtype = torch.device(self._options.device), DTYPES[self._options.dtype]
        started = now()
        report = report_kernels(self._shapes, self._ours, device, dtype, say=partial(print, flush=True))
        captures = not self._options.eager and device.type == "cuda"
        environment = {**facts(device, started), "attention": self._ours.name, "capture": captures}
        write_json(self._path, {**self._asked, "environment": environment, **report.record()})
        return KernelsFound(report.wrong, report.above_roof, report.roofs)
