"""Records of made-up sweeps, written through the real schema."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runners.record import (
    CellLabels,
    CellRecord,
    Environment,
    ExampleResult,
    ExamplesFile,
    RecallResult,
    RecallRow,
    Status,
)

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
LENGTHS = (512, 1024, 2048)
ENVIRONMENT = Environment(
    git_commit="0123456789abcdef",
    git_dirty=False,
    python="3.11.9",
    packages={"torch": "2.13.0"},
    platform="Linux",
    device="cpu",
    threads=1,
    started="2026-11-20T10:00:00Z",
    finished="2026-11-20T10:05:00Z",
)


def example(
    index: int, exact: bool, *, task: str = "niah", budget: int | None = 64, seed: int = 0, **changes: Any
) -> ExampleResult:
    """One answer; a wrong one is one word off, which gives half the score."""
    city, length = f"city{index}", LENGTHS[index % len(LENGTHS)]
    fields: dict[str, Any] = {
        "id": f"{task}-{seed}-{index:05d}",
        "score": 1.0 if exact else 0.5,
        "exact": exact,
        "prediction": f"{city} amber" if exact else f"{city} cobalt",
        "references": [f"{city} amber"],
        "labels": {"length": length, "depth": DEPTHS[index % len(DEPTHS)], "needles": 48},
        "prompt_tokens": length + 10,
        "prefix_tokens": length,
        "truncated_tokens": 0,
        "question_tokens_prefilled": 0,
        "generated_tokens": 12,
        "blocks": 1,
        "budget_tokens": budget,
        "forwards": {"exact": 1, "sparse": 11, "commit": 1},
        "seconds": {"prefill": 0.2, "exact": 0.01, "selection": 0.002, "sparse": 0.05, "commit": 0.01},
        "tokens_decided": {"exact": 1, "sparse": 11, "seed": 0},
        "density": 1.0 if budget is None else min(1.0, 0.2 + budget / length),
        "sparse_blocks": 0 if budget is None else 1,
    }
    return ExampleResult(**{**fields, **changes})


def write_cell(
    experiment: Path,
    method: str,
    budget: int | float | None,
    rows: Sequence[ExampleResult] | Sequence[RecallResult],
    *,
    task: str = "niah",
    seed: int = 0,
    runner: str = "evaluate",
    status: Status = "done",
    error: str | None = None,
    options: dict[str, Any] | None = None,
    metrics: dict[str, float] | None = None,
    config: dict[str, Any] | None = None,
    environment: Environment = ENVIRONMENT,
    told: dict[str, Any] | None = None,
) -> Path:
    """Writes one cell as a sweep does and returns its folder.

    `config` changes top-level fields of its config, `told` fields of its labels.
    """
    config = {
        "model": {"name": "tiny", "weights": "mage/checkpoints/tiny", "block_size": 32, "dtype": "float32"},
        "method": {
            "name": method,
            "_target_": method,
            "dense_layers": 0 if method == "dense" else 2,
            **(options or {}),
        },
        "task": {"name": task, "lengths": list(LENGTHS)},
        "decoding": {"_target_": "mage.generation.decoding.Static", "name": "static", "tokens_per_step": 1},
        "budget": budget,
        "seed": seed,
        "examples": len(rows),
        "runner": {"name": runner, "batch_size": 1},
        **(config or {}),
    }
    names: dict[str, Any] = {"model": "tiny", "method": method, "budget": budget, "task": task, "decoding": "static"}
    names |= {"question": "block", "seed": seed, "runner": runner}
    labels = CellLabels(**{**names, **(told or {})})
    identity = hashlib.sha256(json.dumps([config, runner], sort_keys=True).encode()).hexdigest()[:16]
    folder = experiment / f"tiny-{method}-{budget}-{task.replace('/', '_')}-static-s{seed}-{identity[:8]}"
    folder.mkdir(parents=True)
    content = "".join(row.model_dump_json() + "\n" for row in rows).encode()
    (folder / "examples.jsonl").write_bytes(content)
    record = CellRecord(
        identity=identity,
        name=folder.name,
        experiment=experiment.name,
        status=status,
        error=error,
        labels=labels,
        config=config,
        environment=environment,
        metrics=metrics if metrics is not None else _metrics(rows),
        examples=ExamplesFile(count=len(rows), sha256=hashlib.sha256(content).hexdigest()),
    )
    (folder / "record.json").write_text(record.model_dump_json(indent=1), encoding="utf-8")
    return folder


def write_answers(
    experiment: Path,
    method: str,
    budget: int | float | None,
    right: Callable[[int], bool],
    *,
    count: int = 40,
    task: str = "niah",
    seed: int = 0,
    options: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    environment: Environment = ENVIRONMENT,
    score: Callable[[int], float] | None = None,
) -> Path:
    """A cell of `count` examples; `right(i)` says whether example i is answered exactly, `score(i)` its score."""
    tokens = round(1024 * budget) if isinstance(budget, float) else budget
    rows = [example(i, right(i), task=task, budget=tokens, seed=seed) for i in range(count)]
    if score is not None:
        rows = [row.model_copy(update={"score": score(i)}) for i, row in enumerate(rows)]
    changes: dict[str, Any] = {"options": options, "config": config, "environment": environment}
    return write_cell(experiment, method, budget, rows, task=task, seed=seed, **changes)


def recall_result(index: int, layers: int = 4, steps: int = 8) -> RecallResult:
    """Recall that falls over the steps, and is lowest in layer 0."""
    rows = [
        RecallRow(
            block=1,
            step=step,
            layer=layer,
            recall=0.5 if layer == 0 else 1 - 0.01 * step * layer - 0.002 * (index % 5),
            mass_captured=0.9,
            oracle_mass=0.8,
        )
        for step in range(1, steps + 1)
        for layer in range(layers)
    ]
    return RecallResult(id=f"niah-0-{index:05d}", prefix_tokens=1024, budget_tokens=64, rows=rows)


def _metrics(rows: Sequence[ExampleResult] | Sequence[RecallResult]) -> dict[str, float]:
    answers = [row for row in rows if isinstance(row, ExampleResult)]
    if not answers:
        return {}
    mean = {name: sum(getattr(row, name) for row in answers) / len(answers) for name in ("score", "exact", "density")}
    seconds = {f"seconds_{kind}": answers[0].seconds[kind] for kind in answers[0].seconds}
    forwards = {f"{kind}_forwards_per_block": float(answers[0].forwards[kind]) for kind in answers[0].forwards}
    return {
        "score": mean["score"],
        "exact_match": mean["exact"],
        "density": mean["density"],
        "sparse_token_share": 11 / 12,
        "sparse_block_share": 1.0,
        "tokens_per_second": 150.0,
        **seconds,
        **forwards,
    }
