"""Speed at the shapes of several models: kernels, then contests of methods with dense attention, until time is up."""

from __future__ import annotations

import argparse
import json
import time
from contextlib import suppress
from pathlib import Path

from mage.attention.implementation import operations
from mage.budget import Budget
from mage.errors import UserError
from mage.generation.decoding import Static
from mage.generation.fusing import check_fusing
from mage.timing.roofs import Roofs
from runners.environment import facts, now
from runners.plain_record import RECORD_NAME, PlainRecord
from runners.random_model import RandomModel
from runners.speed_bench import Loaded, Prefixed, SpeedBench, looks
from runners.speed_earlier import Earlier
from runners.speed_kernels import KernelsFound, SuiteKernels
from runners.speed_point import METHODS, Outcome, Point, points, record_of

FINAL = ("done", "out_of_memory")  # what another try would not change
PENDING = Outcome("done", None, {}, ())  # a record's name does not depend on it


class SpeedMatrix:
    """Works through models and points until its time is up. Raises `UserError` for what it cannot begin with, before
    any weights are drawn.

    `written`: the records. `held`: points that had one. `skipped`: points, and kernels of a model, that there was no
    time for. `kernels`: models whose kernels were timed. `wrong`, `above_roof`: kernels, those of held files too.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        """options: of `runners.speed_options`."""
        self._options, self._out = options, Path(options.out)
        self._ends = time.monotonic() + 60 * options.minutes
        self._bench = SpeedBench(options)
        self._earlier = Earlier(self._bench.device)
        size = options.block_size
        needed = max(self._bench.work(context).positions(size) for context in options.contexts)
        folder = Path(options.conf) / "model"
        self._shapes = [RandomModel.read(folder, name, block_size=size, positions=needed) for name in options.models]
        for shape in self._shapes:
            if looks(shape.spec) < 1:
                told = f"--block-size={size}: in blocks of one token {shape.name} has no denoising step."
                raise UserError(f"{told} Allowed: integers >= 2.")
        for method in METHODS.values():
            method().check_budget(Budget(options.budget))
        for shape in self._shapes if options.fuse_commit else ():
            check_fusing(shape.spec, Static())
        self.written: list[PlainRecord] = []
        self.held: list[str] = []
        self.skipped: list[str] = []
        self.kernels: list[str] = []
        self.wrong: list[str] = []
        self.above_roof: list[str] = []

    def run(self) -> None:
        """Write the records of all models, each in its share of the time that is left. Raises RuntimeError where the
        device answers no more."""
        for place, shape in enumerate(self._shapes):
            left = self._ends - time.monotonic()
            self._model(shape, time.monotonic() + left / (len(self._shapes) - place))

    def _model(self, shape: RandomModel, ends: float) -> None:
        """Time the kernels at the shape of one model, then its points, until `ends`. What has a record is not timed
        again."""
        every = points(self._options.contexts, self._options.batches)
        waiting = [point for point in every if not self._is_held(shape, point)]
        self.held += [_told(shape, point) for point in every if point not in waiting]
        roofs = self._kernels(shape, ends)
        loaded: Loaded | Outcome | None = None
        prefix: Prefixed | Outcome | None = None
        context = None  # of the prefix
        while waiting:
            point = waiting.pop(0)
            if loaded is None and time.monotonic() < ends:
                loaded = self._bench.load(shape, roofs)
            if loaded is None or not self._has_time(loaded, point, ends, prefill=point.context != context):
                self.skipped.append(_told(shape, point))
                continue
            if point.context != context:
                prefix, context = None, point.context  # the one before is freed first
                prefix = self._bench.prefill(loaded, context)
            assert prefix is not None
            if self._point(shape, point, prefix).status == "out_of_memory":
                # The most rows that fit come at once, on the prefix that is there.
                waiting.sort(key=lambda other: (other.context, other.method) != (point.context, point.method))

    def _is_held(self, shape: RandomModel, point: Point) -> bool:
        """Whether a final record of this point lies there, made as it would be now, or after graphs were given up."""
        bench, wanted = self._bench, self._bench.capture
        for bench.capture in (False, wanted):  # part of a record's name; the last one stays
            path = self._out / self._record(shape, point, PENDING, now()).name / RECORD_NAME
            with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                held = json.loads(path.read_text(encoding="utf-8"))
                if held["status"] in FINAL and self._earlier.is_alike(held["environment"]):
                    bench.capture = wanted
                    return True
        return False

    def _has_time(self, loaded: Loaded | Outcome, point: Point, ends: float, *, prefill: bool) -> bool:
        """Whether a point is likely to end before the suite is to, and half of it before `ends`."""
        began, seconds = time.monotonic(), self._bench.expected(loaded, point, prefill=prefill)
        return began + seconds <= self._ends and began + seconds / 2 <= ends

    def _kernels(self, shape: RandomModel, ends: float) -> Roofs | None:
        """Check and time the kernels at the shape of a model, unless a file says that they are right; what it calls
        wrong is told again where there is no time. Returns the roofs that were measured."""
        kernels = SuiteKernels(self._options, shape, operations(self._bench.attention, self._bench.device))
        found = kernels.held(self._earlier)
        if found is None or found.wrong:
            if time.monotonic() < ends:
                found = self._timed(shape, kernels)
            else:
                self.skipped.append(f"{shape.name} kernels")
        if found is None:
            return None
        self.wrong += [f"{shape.name} {kernel}" for kernel in found.wrong]
        self.above_roof += [f"{shape.name} {kernel}" for kernel in found.above_roof]
        if found.wrong:
            self._check_device(f"the kernels of {shape.name}")
        return found.roofs

    def _timed(self, shape: RandomModel, kernels: SuiteKernels) -> KernelsFound:
        self.kernels.append(shape.name)
        self._bench.free()
        try:
            return kernels.time()
        except Exception as problem:
            return KernelsFound([f"kernels: {self._bench.failed(problem).last_line}"], [])

    def _point(self, shape: RandomModel, point: Point, prefix: Prefixed | Outcome) -> Outcome:
        """Time a point and write its record. Where it fails and its steps were to be graphs, beside a second stream:
        once more without these, and where they were to blame, so all that follow."""
        bench, started, capture = self._bench, now(), self._bench.capture
        outcome = bench.contest(point, prefix)
        if outcome.status == "error" and capture and isinstance(prefix, Prefixed) and bench.answers():
            bench.capture = False
            again = bench.contest(point, prefix)
            if again.status == "done":
                print(f"without CUDA graphs from here on: {outcome.last_line}", flush=True)
                outcome = again
            else:
                bench.capture = capture
        record = self._record(shape, point, outcome, started)
        record.write(self._out)
        self.written.append(record)
        print(f"{_told(shape, point)}: {outcome.told(captures=bench.captures)}", flush=True)
        if outcome.status == "error":
            self._check_device(_told(shape, point))
        return outcome

    def _check_device(self, place: str) -> None:
        if not self._bench.answers():
            raise RuntimeError(f"the device answers no more, since {place}")

    def _record(self, shape: RandomModel, point: Point, outcome: Outcome, started: str) -> PlainRecord:
        options, bench = self._options, self._bench
        told = {"attention": bench.attention, "capture": bench.captures}
        return record_of(
            shape,
            point,
            outcome,
            budget=options.budget,
            attention=bench.attention,
            capture=bench.capture,
            fuse_commit=options.fuse_commit,
            environment={**facts(bench.device, started), **told},
            runner={
                "rounds": options.rounds,
                "copies": True,
                "overlap": bench.captures,
                "check_every": looks(shape.spec),
                "prefill_chunk": bench.chunk(point.context),
                "warm_blocks": bench.work(point.context).warm_blocks,
            },
            placed={"device": options.device, "dtype": options.dtype},
        )


def _told(shape: RandomModel, point: Point) -> str:
    return f"{shape.name} {point.method} {point.subject}"
