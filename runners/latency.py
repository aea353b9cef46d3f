"""runner=latency: how fast a method is, against what, and how close to what the hardware allows."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from pydantic import BaseModel

from baselines.dense import Dense
from baselines.oracle import Oracle
from mage.errors import UserError
from runners.latency_result import LatencyResult
from runners.runner import CellRunner

if TYPE_CHECKING:
    from mage.generation.engine import Engine
    from mage.generation.prefill import Prefix
    from mage.method import Method
    from mage.models.checkpoint import LanguageModel
    from mage.models.config import BodyConfig
    from mage.models.diffusion import DiffusionSpec
    from mage.timing.workload import Workload
    from runners.cell import Cell
    from runners.settings import ModelSettings
    from runners.sweeping.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class Latency(CellRunner):
    """Seconds a block under a method, beside dense ones, with the engine that also scores.

    `batch` rows of `context` random tokens are prefilled for real, in passes of `prefill_chunk` tokens (None: one).
    Stop tokens are switched off, so that every block does all of its work. After a warm-up, `rounds` rounds alternate
    dense and the method over `blocks` blocks each, every one with its commit. Method dense is timed against itself: how
    far its ratio is from 1 says how far to trust the others. `check_every`, `overlap`, and `capture` and `fuse_commit`
    of the config: see `Engine`, on both sides; the blocks in which forwards become graphs do not count, what they took
    is told beside, nor, where commits are fused, a first block, which holds none. The window of random weights is
    lengthened where prefix and blocks need it.

    A cell is computed as a whole: its rounds belong to one process, one prefix and one measurement of the roofs.
    """

    row_type: ClassVar[type[BaseModel]] = LatencyResult
    unused: ClassVar[tuple[str, ...]] = ("task", "examples")
    json_line: ClassVar[bool] = True
    headline: ClassVar[str] = "speedup"
    columns: ClassVar[dict[str, str]] = {
        "dense_block_seconds": "dense s",
        "block_seconds": "block s",
        "speedup": "speed-up",
        "speedup_low": "from",
        "speedup_high": "to",
        "speedup_over_best": "over best",
        "bound_speedup": "bound",
        "roof_share": "of roof",
        "sparse_step_speedup": "sparse step",
        "dense_forwards_per_block": "dense fwd",
        "forwards_per_block": "fwd",
        "fused_forwards_per_block": "fused",
    }

    context: int = 4096
    batch: int = 1
    blocks: int = 1
    rounds: int = 7
    prefill_chunk: int | None = None
    check_every: int = 1
    overlap: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("context", "batch", "blocks", "rounds", "check_every"):
            if (value := getattr(self, name)) < 1:
                raise UserError(f"runner.{name}={value} is out of range. Allowed: an integer >= 1.")

    @property
    def group_size(self) -> int:
        return self.rounds

    @property
    def subject(self) -> str:
        return f"context {self.context} batch {self.batch}"

    def refusal(self, method: Method) -> str | None:
        if isinstance(method, Oracle):
            return "it looks at every key in every step to choose, saves no time and is not timed"
        return None

    @property
    def workload(self) -> Hashable:
        return self.context, self.batch, self.blocks, self.prefill_chunk

    @property
    def prefixes(self) -> Mapping[str, int]:
        return {f"runner.context={self.context}": self.context}

    def fitted(self, model: ModelSettings, *, fuse_commit: bool = False) -> ModelSettings:
        """See CellRunner: random weights have no trained window, it is as long as it needs to be."""
        window = model.body.get("max_position_embeddings")
        needed = self._positions(model.block_size, fuse_commit)
        if model.weights != "random" or not isinstance(window, int) or window >= needed:
            return model
        return model.model_copy(update={"body": {**model.body, "max_position_embeddings": needed}})

    def check(self, spec: DiffusionSpec, body: BodyConfig, *, fuse_commit: bool = False) -> None:
        """See CellRunner."""
        unit, size = spec.prefill_unit, spec.block_size
        if size == 1 and spec.seeded:
            raise UserError(
                "model.block_size=1: the forward before a block decides all of it, and no denoising step is left to "
                "time. Allowed: 2 and more."
            )
        for name, value in (("context", self.context), ("prefill_chunk", self.prefill_chunk)):
            if value is not None and (value < unit or value % unit):
                allowed = "an integer >= 1" if unit == 1 else f"a multiple of model.block_size={unit}"
                raise UserError(f"runner.{name}={value} is not allowed. Allowed: {allowed}.")
        needed = self._positions(size, fuse_commit)
        if needed > body.max_positions:
            more = "" if body.yarn else "; model.yarn stretches them"
            raise UserError(
                f"runner.context={self.context}: with the blocks behind it it takes {needed} positions, the model has "
                f"{body.max_positions}. Allowed: at most {body.max_positions - needed + self.context}{more}."
            )

    def _positions(self, block_size: int, fuse_commit: bool) -> int:
        """Return how many positions a contest may take, on whichever device."""
        from mage.timing.workload import Workload, warm_blocks_of

        warm = warm_blocks_of(captured=True)
        work = Workload(context=self.context, blocks=self.blocks, warm_blocks=warm, fuse_commit=fuse_commit)
        return work.positions(block_size)

    def questions(self, cell: Cell, bench: Workbench) -> list[tuple[str, int]]:
        """See CellRunner: the rounds, by number."""
        return [(_name(number), number) for number in range(self.rounds)]

    def compute(self, cell: Cell, bench: Workbench, questions: Sequence[int]) -> list[BaseModel]:
        from mage.timing.latency import measure  # brings torch, which a refused config need not wait for
        from mage.timing.roofs import measure_roofs
        from mage.timing.workload import Workload, is_captured, warm_blocks_of, without_stops

        model = without_stops(bench.model(cell))
        dense, method = (self._engine(cell, model, each) for each in (Dense(), cell.method))
        work = Workload(
            context=self.context,
            batch=self.batch,
            blocks=self.blocks,
            warm_blocks=warm_blocks_of(is_captured(method)),
            seed=cell.settings.seed,
            fuse_commit=cell.settings.fuse_commit,
        )
        roofs = measure_roofs(model.device, model.body.lm_head.weight.dtype)
        prefix, peak = self._prefix(cell, bench, dense, work)
        conditions, timed = measure(
            dense,
            method,
            cell.budget,
            prefix,
            work,
            roofs,
            rounds=len(questions),
            chunk=self.prefill_chunk,
            prefill_peak_bytes=peak,
        )
        return [
            LatencyResult(
                id=_name(number),
                round=one.round,
                dense_bound=one.dense,
                method_bound=one.method,
                conditions=conditions,
            )
            for number, one in zip(questions, timed, strict=True)
        ]

    def _engine(self, cell: Cell, model: LanguageModel, method: Method) -> Engine:
        from mage.generation.engine import Engine

        return Engine(
            model,
            method,
            cell.decoding,
            prefill_chunk=self.prefill_chunk,
            attention=cell.attention,
            check_every=self.check_every,
            capture=cell.settings.capture,
            overlap=self.overlap,
            fuse_commit=cell.settings.fuse_commit,
        )

    def _prefix(self, cell: Cell, bench: Workbench, engine: Engine, work: Workload) -> tuple[Prefix, float | None]:
        """Return the prefix, which cells of other methods share, and the peak memory of its prefill if that ran now."""
        from mage.timing.memory import PeakMemory
        from mage.timing.workload import prefilled

        peaks: list[float] = []

        def compute() -> Prefix:
            memory = PeakMemory(engine.model.device)
            prefix = prefilled(engine, work)
            peaks.append(memory.read())
            return prefix

        prefix = bench.kept((work, self.prefill_chunk, engine.model.spec.block_size), compute)
        return prefix, peaks[0] if peaks else None

    def summarise(self, rows: Sequence[BaseModel]) -> dict[str, float]:
        from mage.timing.rounds import Timed
        from mage.timing.summary import metrics_of

        results = cast("Sequence[LatencyResult]", rows)
        timed = [Timed(row.round, row.dense_bound, row.method_bound) for row in results]
        return metrics_of(results[0].conditions, timed)


def _name(number: int) -> str:
    return f"round-{number:03d}"
