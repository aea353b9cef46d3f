"""The kernels of the speed suite: checked and timed at one context of a model, left in a file of their own."""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mage.attention.operations import Operations
from mage.budget import Budget
from mage.models.checkpoint import LanguageModel
from mage.timing.kernel_report import report_kernels
from mage.timing.kernel_shape import KernelShape
from mage.timing.roofs import Roofs
from runners.environment import device_name, facts, now
from runners.plain_record import write_json
from runners.speed_point import FIRST_BATCHES


def time_suite_kernels(
    options: argparse.Namespace, name: str, model: LanguageModel, ours: Operations, roofs: Roofs, context: int
) -> list[str]:
    """Time the kernels at `context`, one row and as many as the second of the batches, and write what they gave.

    `options`: of `runners.speed_options`; `name`: of the model. Returns the names of those that are wrong. What a file
    of the same device, shapes and budget holds without a fault is not timed again.
    """
    device, dtype = torch.device(options.device), model.body.lm_head.weight.dtype
    path = Path(options.out) / f"kernels_{name}_{ours.name}_{options.dtype}.json"
    shapes = [
        KernelShape(
            body=model.body.config,
            block_size=options.block_size,
            context=context,
            batch=batch,
            budget=Budget(options.budget),
        )
        for batch in sorted({1, *options.batches[:FIRST_BATCHES]})
    ]
    asked = {
        "runner": "kernels",
        "model": name,
        "dtype": options.dtype,
        "block_size": options.block_size,
        "budget": options.budget,
        "page_size": shapes[0].page_size,
        "context": context,
    }
    if _is_held(path, asked, {shape.batch for shape in shapes}, device):
        return []
    started = now()
    report = report_kernels(shapes, ours, device, dtype, roofs=roofs, say=partial(print, flush=True))
    captures = not options.eager and device.type == "cuda"
    environment = {**facts(device, started), "attention": ours.name, "capture": captures}
    write_json(path, {**asked, "environment": environment, **report.record()})
    return report.wrong


def _is_held(path: Path, asked: dict[str, Any], batches: set[int], device: torch.device) -> bool:
    """Whether a file holds what is asked for, and nothing in it is wrong."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        held = json.loads(path.read_text(encoding="utf-8"))
        same = all(held[key] == value for key, value in asked.items()) and not held["wrong"]
        timed = {timing["batch"] for timing in held["timings"]}
        return same and held["environment"]["device"] == device_name(device) and timed >= batches
    return False
