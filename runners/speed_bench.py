"""Models at work for the speed suite: loaded, prefilled and timed as its options ask; what fails is an outcome, too."""

from __future__ import annotations

import argparse
import gc
import time
from contextlib import suppress
from typing import NamedTuple

import torch

from baselines.dense import Dense
from mage.attention.implementation import resolve
from mage.budget import Budget
from mage.generation.decoding import Static
from mage.generation.engine import Engine
from mage.generation.prefill import Prefix
from mage.method import Method
from mage.models.checkpoint import LanguageModel
from mage.models.diffusion import DiffusionSpec
from mage.timing.latency import measure
from mage.timing.memory import PeakMemory
from mage.timing.roofs import Roofs, measure_roofs
from mage.timing.workload import Workload, prefilled, repeated, warm_blocks_of
from runners.random_model import RandomModel
from runners.speed_pace import Pace
from runners.speed_point import METHODS, Outcome, Point
from runners.sweeping.ending import failure

ONE_PASS = 32768  # tokens of the longest prefill pass


class Loaded(NamedTuple):
    """A model, the roofs that were measured beside it, and how long its points take."""

    model: LanguageModel
    roofs: Roofs
    pace: Pace


class Prefixed(NamedTuple):
    """A prefix of one row of a model, and the peak memory of its prefill in bytes."""

    loaded: Loaded
    rows: Prefix
    peak_bytes: float


class SpeedBench:
    """One device and one way of working on it. `capture`: whether steps are to be graphs, beside a second stream, where
    there is a GPU. Raises `UserError` for attention that the device does not serve."""

    def __init__(self, options: argparse.Namespace) -> None:
        """options: of `runners.speed_options`."""
        self._options = options
        self.device = torch.device(options.device)
        self.attention = resolve(options.attention, self.device.type)
        self.capture = not options.eager

    def load(self, shape: RandomModel, roofs: Roofs | None = None) -> Loaded | Outcome:
        """Draw the weights of a shape and measure the roofs. `roofs`: of an earlier measurement, the higher ones
        count."""
        self.free()
        try:
            model = shape.load(self._options.device, self._options.dtype)
            weight = model.body.lm_head.weight
            measured = measure_roofs(self.device, weight.dtype)
            roofs = measured if roofs is None else measured.better(roofs)
            pace = Pace(model.body.config, weight.itemsize, self._options.block_size, roofs)
            return Loaded(model, roofs, pace)
        except Exception as problem:
            return self.failed(problem)

    def prefill(self, loaded: Loaded | Outcome, context: int) -> Prefixed | Outcome:
        """Make the prefix of one row, unless there is no model."""
        if isinstance(loaded, Outcome):
            return loaded
        self.free()
        memory = PeakMemory(self.device)
        try:
            made = prefilled(self._engine(loaded.model, Dense(), context), self.work(context))
        except Exception as problem:
            return self.failed(problem)
        loaded.pace.learn("prefill", self._least_of_prefill(loaded.pace, context), made.seconds)
        return Prefixed(loaded, made, memory.read())

    def contest(self, point: Point, prefix: Prefixed | Outcome) -> Outcome:
        """Time a point, unless there is no prefix."""
        if isinstance(prefix, Outcome):
            return prefix
        self.free()
        loaded, began = prefix.loaded, time.monotonic()
        try:
            conditions, timed = measure(
                self._engine(loaded.model, Dense(), point.context),
                self._engine(loaded.model, METHODS[point.method](), point.context),
                Budget(self._options.budget),
                repeated(prefix.rows, loaded.model, point.batch),
                self.work(point.context, point.batch),
                loaded.roofs,
                rounds=self._options.rounds,
                chunk=self.chunk(point.context),
                prefill_peak_bytes=prefix.peak_bytes,
            )
        except Exception as problem:
            return self.failed(problem)
        loaded.pace.learn(point.method, self._least(loaded.pace, point), time.monotonic() - began)
        return Outcome.of(conditions, timed)

    def expected(self, loaded: Loaded | Outcome, point: Point, *, prefill: bool) -> float:
        """Return the seconds that a point is likely to take, the prefill of its prefix included where that is to be
        made."""
        if isinstance(loaded, Outcome):
            return 0.0
        pace = loaded.pace
        seconds = pace.expected("prefill", self._least_of_prefill(pace, point.context)) if prefill else 0.0
        return seconds + pace.expected(point.method, self._least(pace, point))

    def failed(self, problem: Exception) -> Outcome:
        """Return the outcome of what raised `problem`, and let go of what it held."""
        ending = failure(problem)
        held: BaseException | None = problem
        while held is not None:
            held.__traceback__ = None  # it holds what filled the memory
            held = held.__context__
        self.free()
        return Outcome(ending.status, ending.error, {}, ())

    def free(self) -> None:
        """Give back what is held without need: a large tensor may then find room."""
        gc.collect()
        if self.device.type == "cuda":
            with suppress(RuntimeError):  # of a device that answers no more
                torch.cuda.empty_cache()

    def answers(self) -> bool:
        """Whether the device still works: after some errors of a kernel nothing does, until the process ends."""
        try:
            return int(torch.ones(1, device=self.device).item()) == 1
        except RuntimeError:
            return False

    @property
    def captures(self) -> bool:
        """Whether steps are graphs where they can be."""
        return self.capture and self.device.type == "cuda"

    def chunk(self, context: int) -> int | None:
        """Return the tokens of a prefill pass (None: all at once)."""
        size = self._options.block_size
        return ONE_PASS // size * size if context > ONE_PASS else None

    def work(self, context: int, batch: int = 1) -> Workload:
        """Return what a contest works on."""
        warm = warm_blocks_of(self.device.type == "cuda")  # with graphs or without: one prefix serves both
        fused = self._options.fuse_commit
        return Workload(context=context, batch=batch, warm_blocks=warm, copies=True, fuse_commit=fused)

    def _least_of_prefill(self, pace: Pace, context: int) -> float:
        return pace.prefill(context, self.chunk(context))

    def _least(self, pace: Pace, point: Point) -> float:
        work = self.work(point.context, point.batch)
        return pace.contest(work, self._options.budget, self._options.rounds)

    def _engine(self, model: LanguageModel, method: Method, context: int) -> Engine:
        return Engine(
            model,
            method,
            Static(),
            prefill_chunk=self.chunk(context),
            attention=self.attention,
            check_every=looks(model.spec),
            capture=self.capture,
            overlap=self.captures,
            fuse_commit=self._options.fuse_commit,
        )


def looks(spec: DiffusionSpec) -> int:
    """Denoising steps between two looks: the steps of a block are known, no look is needed between them. Where the
    token behind the last block takes a step of its own, it is to take few."""
    return spec.block_size - 1 if spec.seeded else max(spec.block_size // 4, 1)
