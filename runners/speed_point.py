"""A point of the speed matrix: what is timed, and the record that tells of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from baselines.quest import Quest
from mage.generation.decoding import Static
from mage.mage import Mage
from mage.method import Method
from mage.timing.rounds import Conditions, Timed
from mage.timing.summary import metrics_of
from runners.plain_record import PlainRecord
from runners.random_model import RandomModel

METHODS: dict[str, type[Method]] = {"mage": Mage, "quest": Quest}
QUEST_CONTEXTS = 2  # the first ones: Quest is beside MAGE at few points
FIRST_CONTEXTS, FIRST_BATCHES = 3, 2  # what MAGE is timed at before anything else


@dataclass(frozen=True)
class Point:
    """A cell of the matrix of one model: a method on `context` prefix entries in each of `batch` rows."""

    context: int
    batch: int
    method: str

    @property
    def subject(self) -> str:
        """As runner=latency names it."""
        return f"context {self.context} batch {self.batch}"


@dataclass(frozen=True)
class Outcome:
    """How a point ended; `metrics` and `rows` are empty where it failed."""

    status: str
    error: str | None
    metrics: Mapping[str, float]
    rows: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, conditions: Conditions, timed: Sequence[Timed]) -> Outcome:
        """What a contest gave, its rows as `runners.latency_result.LatencyResult` has them."""
        rows = [
            {
                "id": f"round-{number:03d}",
                "round": asdict(one.round),
                "dense_bound": asdict(one.dense),
                "method_bound": asdict(one.method),
                "conditions": asdict(conditions),
            }
            for number, one in enumerate(timed)
        ]
        return cls("done", None, metrics_of(conditions, timed), rows)

    def told(self, *, captures: bool) -> str:
        """For a person: the seconds of a block and their ratio, or what went wrong. `captures`: whether both sides were
        to replay graphs."""
        found = self.metrics
        if not found:
            return f"{self.status.replace('_', ' ')}: {self.last_line}"
        seconds = f"{1e3 * found['dense_block_seconds']:.1f} ms dense, {1e3 * found['block_seconds']:.1f} ms"
        told = f"{seconds}, {found['speedup']:.2f}x of a bound of {found['bound_speedup']:.2f}x"
        conditions = self.rows[-1]["conditions"]
        lacking = captures and not (conditions["captured"] and conditions["dense_captured"])
        return f"{told}; not all of it as graphs" if lacking else told

    @property
    def last_line(self) -> str:
        """Of the error."""
        return (self.error or "no message").strip().splitlines()[-1]


def points(contexts: Sequence[int], batches: Sequence[int]) -> list[Point]:
    """Return the points of a model, the most telling first: MAGE at the first batches of the first contexts, then all
    others. Each time, what shares a prefix stands together."""
    first = [
        Point(context, batch, "mage") for context in contexts[:FIRST_CONTEXTS] for batch in batches[:FIRST_BATCHES]
    ]
    every = []
    for place, context in enumerate(contexts):
        every += [Point(context, batches[0], "quest")] if place < QUEST_CONTEXTS else []
        every += [Point(context, batch, "mage") for batch in batches]
    return list(dict.fromkeys([*first, *every]))


def record_of(
    shape: RandomModel,
    point: Point,
    outcome: Outcome,
    *,
    budget: int,
    attention: str,
    capture: bool,
    fuse_commit: bool,
    environment: Mapping[str, Any],
    runner: Mapping[str, Any],
    placed: Mapping[str, str],
) -> PlainRecord:
    """Return the record of a point. `runner`: its options; `placed`: device and dtype of the model."""
    labels = {
        "model": shape.name,
        "method": point.method,
        "budget": budget,
        "task": point.subject,
        "decoding": "static",
        "question": "",
        "seed": 0,
        "runner": "latency",
        "metric": "",
    }
    config = {
        "model": {**shape.choice, "weights": "random", **placed},
        "method": {"name": point.method, **asdict(METHODS[point.method]())},
        "decoding": {"name": "static", **asdict(Static())},
        "budget": budget,
        "seed": 0,
        "attention": attention,
        "capture": capture,
        "fuse_commit": fuse_commit,
        "runner": {"name": "latency", "context": point.context, "batch": point.batch, **runner},
    }
    return PlainRecord(
        labels=labels,
        config=config,
        environment=environment,
        model_hash=shape.content_hash,
        status=outcome.status,
        error=outcome.error,
        metrics=outcome.metrics,
        rows=outcome.rows,
    )
