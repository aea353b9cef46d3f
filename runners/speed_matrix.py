"""Speed at the shapes of several models: kernels, then contests of methods with dense attention, until time is up."""

from __future__ import annotations

import argparse
import gc
import json
import time
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch

from baselines.dense import Dense
from mage.attention.implementation import operations, resolve
from mage.budget import Budget
from mage.errors import UserError
from mage.generation.decoding import Static
from mage.generation.engine import Engine
from mage.generation.prefill import Prefix
from mage.method import Method
from mage.timing.kernel_report import report_kernels
from mage.timing.kernel_shape import KernelShape
from mage.timing.latency import measure
from mage.timing.memory import PeakMemory
from mage.timing.roofs import Roofs, measure_roofs
from mage.timing.workload import Workload, prefilled, repeated, warm_blocks_of
from runners.ending import failure
from runners.environment import facts, now
from runners.plain_record import PlainRecord, write_json
from runners.random_model import RandomModel, load_random
from runners.speed_point import METHODS, Outcome, Point, points, record_of

ONE_PASS = 32768  # tokens of the longest prefill pass


class Prefixed(NamedTuple):
    """A prefix of one row, and the peak memory of its prefill in bytes."""

    rows: Prefix
    peak_bytes: float


class SpeedMatrix:
    """Works through models and points until its time is up. Raises `UserError` for what it cannot begin with."""

    def __init__(self, options: argparse.Namespace) -> None:
        _check(options)
        self._options = options
        self._device, self._out = torch.device(options.device), Path(options.out)
        self._ends = time.monotonic() + 60 * options.minutes
        self._attention = resolve(options.attention, self._device.type)
        self._capture, self._roofs = not options.eager, Roofs(1.0, 1.0)
        self.written: list[PlainRecord] = []
        self.skipped: list[str] = []
        self.wrong: list[str] = []

    def run(self) -> None:
        """Write the records of all models, each in its share of the time that is left."""
        for place, name in enumerate(self._options.models):
            left = self._ends - time.monotonic()
            self._model(name, time.monotonic() + left / (len(self._options.models) - place))

    def _model(self, name: str, ends: float) -> None:
        """Time the points of one model until `ends`, its kernels at the first context before them."""
        options = self._options
        loaded: RandomModel | None = None
        for context, wanted in groupby(points(options.contexts, options.batches), lambda point: point.context):
            prefix: Prefixed | Outcome | None = None  # made when it is needed, and freed before the next one
            for point in wanted:
                if time.monotonic() >= ends:
                    self.skipped.append(f"{name} {point.method} {point.subject}")
                    continue
                if loaded is None:
                    loaded = self._loaded(name)
                    self._kernels(loaded, context)
                if prefix is None:
                    prefix = self._prefilled(loaded, context)
                self._point(loaded, point, prefix)

    def _loaded(self, name: str) -> RandomModel:
        options = self._options
        loaded = load_random(
            Path(options.conf) / "model",
            name,
            block_size=options.block_size,
            positions=max(self._work(context).positions(options.block_size) for context in options.contexts),
            device=options.device,
            dtype=options.dtype,
        )
        self._roofs = measure_roofs(self._device, loaded.model.body.lm_head.weight.dtype)
        return loaded

    def _kernels(self, loaded: RandomModel, context: int) -> None:
        """Check and time the kernels at one shape of a model, and write what they gave to a file of its own."""
        options, started, body = self._options, now(), loaded.model.body
        shape = KernelShape(
            body=body.config,
            block_size=options.block_size,
            context=context,
            batch=1,
            budget=Budget(options.budget),
        )
        ours = operations(self._attention, self._device)
        try:
            report = report_kernels([shape], ours, self._device, body.lm_head.weight.dtype)
        except Exception as problem:
            self.wrong.append(f"{loaded.name} kernels: {_last_line(self._failed(problem))}")
            return
        self.wrong += [f"{loaded.name} {kernel}" for kernel in report.wrong]
        told = {"runner": "kernels", "model": loaded.name, "context": context, "environment": self._facts(started)}
        name = f"kernels_{loaded.name}_{self._attention}_{options.dtype}.json"
        # The error of a kernel that gives NaN is infinite, which JSON has no number for.
        write_json(self._out / name, {**told, **json.loads(json.dumps(report.record()), parse_constant=str)})

    def _point(self, loaded: RandomModel, point: Point, prefix: Prefixed | Outcome) -> None:
        """Time a point. Where it fails and its steps were to be graphs, beside a second stream: once more without
        these, and so all that follow."""
        started = now()
        outcome = self._timed(loaded, point, prefix)
        if outcome.status == "error" and self._capture and isinstance(prefix, Prefixed):
            print(f"without CUDA graphs from here on: {_last_line(outcome)}", flush=True)
            self._capture = False
            outcome = self._timed(loaded, point, prefix)
        options = self._options
        record = record_of(
            loaded,
            point,
            outcome,
            budget=options.budget,
            attention=self._attention,
            environment=self._facts(started),
            runner={"rounds": options.rounds, "copies": True, "capture": self._capture, "overlap": self._overlap},
            placed={"device": options.device, "dtype": options.dtype},
        )
        record.write(self._out)
        self.written.append(record)
        print(f"{loaded.name} {point.method} {point.subject}: {_told(outcome)}", flush=True)

    def _prefilled(self, loaded: RandomModel, context: int) -> Prefixed | Outcome:
        memory = PeakMemory(self._device)
        try:
            made = prefilled(self._engine(loaded, Dense(), context), self._work(context))
        except Exception as problem:
            return self._failed(problem)
        return Prefixed(made, memory.read())

    def _timed(self, loaded: RandomModel, point: Point, prefix: Prefixed | Outcome) -> Outcome:
        if isinstance(prefix, Outcome):
            return prefix
        try:
            conditions, timed = measure(
                self._engine(loaded, Dense(), point.context),
                self._engine(loaded, METHODS[point.method](), point.context),
                Budget(self._options.budget),
                repeated(prefix.rows, loaded.model, point.batch),
                self._work(point.context, point.batch),
                self._roofs,
                rounds=self._options.rounds,
                chunk=self._chunk(point.context),
                prefill_peak_bytes=prefix.peak_bytes,
            )
        except Exception as problem:
            return self._failed(problem)
        return Outcome.of(conditions, timed)

    def _failed(self, problem: Exception) -> Outcome:
        ending = failure(problem)
        problem.__traceback__ = None  # it holds what filled the memory
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return Outcome(ending.status, ending.error, {}, ())

    def _engine(self, loaded: RandomModel, method: Method, context: int) -> Engine:
        spec = loaded.model.spec
        # The steps of a block are known: no look is needed between them. Where the token behind the last block takes a
        # step of its own, it is to take few.
        looks = spec.block_size - 1 if spec.seeded else max(spec.block_size // 4, 1)
        return Engine(
            loaded.model,
            method,
            Static(),
            prefill_chunk=self._chunk(context),
            attention=self._attention,
            check_every=looks,
            capture=self._capture,
            overlap=self._overlap,
        )

    @property
    def _overlap(self) -> bool:
        return self._capture and self._device.type == "cuda"

    def _chunk(self, context: int) -> int | None:
        size = self._options.block_size
        return ONE_PASS // size * size if context > ONE_PASS else None

    def _work(self, context: int, batch: int = 1) -> Workload:
        warm = warm_blocks_of(self._device.type == "cuda")  # with graphs or without: one prefix serves both
        return Workload(context=context, batch=batch, warm_blocks=warm, copies=True)

    def _facts(self, started: str) -> dict[str, object]:
        return {**facts(self._device, started), "attention": self._attention}


def _check(options: argparse.Namespace) -> None:
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device={options.device}: no CUDA device, or a torch without CUDA. Allowed: cpu.")
    for context in options.contexts:
        if context < 1 or context % options.block_size:
            allowed = f"multiples of --block-size={options.block_size}"
            raise UserError(f"--contexts: {context} is not allowed. Allowed: {allowed}.")
    smallest = min(options.budget, options.rounds, *options.batches)
    if smallest < 1:
        raise UserError(f"--budget, --rounds, --batches: {smallest} is out of range. Allowed: integers >= 1.")


def _told(outcome: Outcome) -> str:
    found = outcome.metrics
    if not found:
        return f"{outcome.status.replace('_', ' ')}: {_last_line(outcome)}"
    seconds = f"{1e3 * found['dense_block_seconds']:.1f} ms dense, {1e3 * found['block_seconds']:.1f} ms"
    return f"{seconds}, {found['speedup']:.2f}x of a bound of {found['bound_speedup']:.2f}x"


def _last_line(outcome: Outcome) -> str:
    return (outcome.error or "no message").strip().splitlines()[-1]
