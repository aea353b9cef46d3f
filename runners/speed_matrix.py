"""Speed at the shapes of several models: kernels, then contests of methods with dense attention, until time is up."""

from __future__ import annotations

import argparse
import gc
import time
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch

from baselines.dense import Dense
from mage.attention.implementation import operations, resolve
from mage.budget import Budget
from mage.generation.decoding import Static
from mage.generation.engine import Engine
from mage.generation.fusing import check_fusing
from mage.generation.prefill import Prefix
from mage.method import Method
from mage.models.checkpoint import LanguageModel
from mage.models.diffusion import DiffusionSpec
from mage.timing.kernel_report import report_kernels
from mage.timing.kernel_shape import KernelShape
from mage.timing.latency import measure
from mage.timing.memory import PeakMemory
from mage.timing.roofs import Roofs, measure_roofs
from mage.timing.workload import Workload, prefilled, repeated, warm_blocks_of
from runners.environment import facts, now
from runners.plain_record import PlainRecord, write_json
from runners.random_model import RandomModel
from runners.speed_point import METHODS, Outcome, Point, points, record_of
from runners.sweeping.ending import failure

ONE_PASS = 32768  # tokens of the longest prefill pass


class Loaded(NamedTuple):
    """A model, the shape it is of, and the roofs that were measured beside it."""

    shape: RandomModel
    model: LanguageModel
    roofs: Roofs


class Prefixed(NamedTuple):
    """A prefix of one row of a model, and the peak memory of its prefill in bytes."""

    loaded: Loaded
    rows: Prefix
    peak_bytes: float


class SpeedMatrix:
    """Works through models and points until its time is up. Raises `UserError` for what it cannot begin with, before
    any weights are drawn."""

    def __init__(self, options: argparse.Namespace) -> None:
        """options: of `runners.speed_options`."""
        self._options = options
        self._device, self._out = torch.device(options.device), Path(options.out)
        self._ends = time.monotonic() + 60 * options.minutes
        self._attention = resolve(options.attention, self._device.type)
        self._capture = not options.eager
        size = options.block_size
        needed = max(self._work(context).positions(size) for context in options.contexts)
        folder = Path(options.conf) / "model"
        self._shapes = [RandomModel.read(folder, name, block_size=size, positions=needed) for name in options.models]
        for shape in self._shapes if options.fuse_commit else ():
            check_fusing(shape.spec, Static())
        self.written: list[PlainRecord] = []
        self.skipped: list[str] = []
        self.wrong: list[str] = []

    def run(self) -> None:
        """Write the records of all models, each in its share of the time that is left."""
        for place, shape in enumerate(self._shapes):
            left = self._ends - time.monotonic()
            self._model(shape, time.monotonic() + left / (len(self._shapes) - place))

    def _model(self, shape: RandomModel, ends: float) -> None:
        """Time the points of one model until `ends`, its kernels at the first context before them."""
        loaded: Loaded | Outcome | None = None
        for context, wanted in groupby(points(self._options.contexts, self._options.batches), lambda p: p.context):
            prefix: Prefixed | Outcome | None = None  # made when it is needed, and freed before the next one
            for point in wanted:
                if time.monotonic() >= ends:
                    self.skipped.append(f"{shape.name} {point.method} {point.subject}")
                    continue
                if loaded is None:
                    loaded = self._loaded(shape)
                    if isinstance(loaded, Loaded):
                        self._kernels(loaded, context)
                if prefix is None:
                    prefix = self._prefilled(loaded, context) if isinstance(loaded, Loaded) else loaded
                self._point(shape, point, prefix)

    def _loaded(self, shape: RandomModel) -> Loaded | Outcome:
        try:
            model = shape.load(self._options.device, self._options.dtype)
            return Loaded(shape, model, measure_roofs(self._device, model.body.lm_head.weight.dtype))
        except Exception as problem:
            return self._failed(problem)

    def _kernels(self, loaded: Loaded, context: int) -> None:
        """Check and time the kernels at one shape of a model, and write what they gave to a file of its own."""
        options, started, body = self._options, now(), loaded.model.body
        shape = KernelShape(
            body=body.config,
            block_size=options.block_size,
            context=context,
            batch=1,
            budget=Budget(options.budget),
        )
        ours, name = operations(self._attention, self._device), loaded.shape.name
        try:
            report = report_kernels([shape], ours, self._device, body.lm_head.weight.dtype)
        except Exception as problem:
            self.wrong.append(f"{name} kernels: {self._failed(problem).last_line}")
            return
        self.wrong += [f"{name} {kernel}" for kernel in report.wrong]
        told = {
            "runner": "kernels",
            "model": name,
            "dtype": options.dtype,
            "block_size": shape.block_size,
            "budget": options.budget,
            "page_size": shape.page_size,
            "context": context,
            "environment": self._facts(started),
        }
        write_json(self._out / f"kernels_{name}_{self._attention}_{options.dtype}.json", {**told, **report.record()})

    def _point(self, shape: RandomModel, point: Point, prefix: Prefixed | Outcome) -> None:
        """Time a point. Where it fails and its steps were to be graphs, beside a second stream: once more without
        these, and so all that follow."""
        started = now()
        outcome = self._timed(point, prefix)
        if outcome.status == "error" and self._capture and isinstance(prefix, Prefixed):
            print(f"without CUDA graphs from here on: {outcome.last_line}", flush=True)
            self._capture = False
            outcome = self._timed(point, prefix)
        options = self._options
        record = record_of(
            shape,
            point,
            outcome,
            budget=options.budget,
            attention=self._attention,
            capture=self._capture,
            fuse_commit=options.fuse_commit,
            environment=self._facts(started),
            runner={
                "rounds": options.rounds,
                "copies": True,
                "overlap": self._overlap,
                "check_every": _looks(shape.spec),
                "prefill_chunk": self._chunk(point.context),
                "warm_blocks": self._work(point.context).warm_blocks,
            },
            placed={"device": options.device, "dtype": options.dtype},
        )
        record.write(self._out)
        self.written.append(record)
        print(f"{shape.name} {point.method} {point.subject}: {outcome.told}", flush=True)

    def _prefilled(self, loaded: Loaded, context: int) -> Prefixed | Outcome:
        memory = PeakMemory(self._device)
        try:
            made = prefilled(self._engine(loaded.model, Dense(), context), self._work(context))
        except Exception as problem:
            return self._failed(problem)
        return Prefixed(loaded, made, memory.read())

    def _timed(self, point: Point, prefix: Prefixed | Outcome) -> Outcome:
        if isinstance(prefix, Outcome):
            return prefix
        model = prefix.loaded.model
        try:
            conditions, timed = measure(
                self._engine(model, Dense(), point.context),
                self._engine(model, METHODS[point.method](), point.context),
                Budget(self._options.budget),
                repeated(prefix.rows, model, point.batch),
                self._work(point.context, point.batch),
                prefix.loaded.roofs,
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

    def _engine(self, model: LanguageModel, method: Method, context: int) -> Engine:
        return Engine(
            model,
            method,
            Static(),
            prefill_chunk=self._chunk(context),
            attention=self._attention,
            check_every=_looks(model.spec),
            capture=self._capture,
            overlap=self._overlap,
            fuse_commit=self._options.fuse_commit,
        )

    @property
    def _overlap(self) -> bool:
        return self._capture and self._device.type == "cuda"

    def _chunk(self, context: int) -> int | None:
        size = self._options.block_size
        return ONE_PASS // size * size if context > ONE_PASS else None

    def _work(self, context: int, batch: int = 1) -> Workload:
        warm = warm_blocks_of(self._device.type == "cuda")  # with graphs or without: one prefix serves both
        fused = self._options.fuse_commit
        return Workload(context=context, batch=batch, warm_blocks=warm, copies=True, fuse_commit=fused)

    def _facts(self, started: str) -> dict[str, object]:
        capture = self._capture and self._device.type == "cuda"
        return {**facts(self._device, started), "attention": self._attention, "capture": capture}


def _looks(spec: DiffusionSpec) -> int:
    """Denoising steps between two looks: the steps of a block are known, no look is needed between them. Where the
    token behind the last block takes a step of its own, it is to take few."""
    return spec.block_size - 1 if spec.seeded else max(spec.block_size // 4, 1)
