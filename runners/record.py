"""What a cell leaves behind: one validated schema for writers and readers. Readers reject what does not validate."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mage.generation.recall_row import RecallRow

EXAMPLES_NAME = "examples.jsonl"
RECORD_NAME = "record.json"

Status = Literal["done", "out_of_memory", "timeout", "invalid_config", "error"]


class Schema(BaseModel):
    """A part of a record: unknown fields are refused, values never change after validation, NaN is no value."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Environment(Schema):
    """Where a cell was computed. Times are ISO 8601, UTC. `attention`: the implementation that computed it.
    `capture`: whether forwards could be repeated as CUDA graphs. `earlier_commits`: of the code that computed some of
    the examples, where that is not `git_commit`."""

    git_commit: str | None
    git_dirty: bool | None
    python: str
    packages: dict[str, str]
    platform: str
    device: str
    threads: int
    started: str
    finished: str
    attention: Literal["torch", "triton"] = "torch"  # the only one that there was at first
    capture: bool = False  # there were none at first
    earlier_commits: list[str] = []


class CellLabels(Schema):
    """The names of a cell's choices, for tables. `budget` is None where the method uses none.

    `metric`: what the score of an example is. `source`: where fixed examples come from. `extended`: how the model's
    positions were stretched beyond those it was trained with, such as `YaRN x4`; empty where they were not.
    """

    model: str
    method: str
    budget: int | float | None
    task: str
    decoding: str
    question: str
    seed: int
    runner: str
    metric: str = "share of the answer"
    source: str = ""
    extended: str = ""


class ExamplesFile(Schema):
    """The file of results per example, beside record.json: its name, number of lines and SHA-256."""

    path: str = EXAMPLES_NAME
    count: int
    sha256: str


class CellRecord(Schema):
    """The record of one cell. `error` says what failed, with the traceback where there is one."""

    schema_version: Literal[1] = 1
    identity: str = Field(pattern=r"^[0-9a-f]{16}$")
    name: str
    experiment: str
    status: Status
    error: str | None
    labels: CellLabels
    config: dict[str, Any]
    environment: Environment
    metrics: dict[str, float]
    examples: ExamplesFile | None


class ExampleResult(Schema):
    """runner=evaluate: one example. `seconds` is wall time by kind; `density` is read over dense KV entries.
    `shared_tokens`: of the prefix, whose prefill other examples of the context share; its seconds are split evenly.

    With runner.likelihood=true: `answer_nll`, the negative log-likelihood in nats of the answer under the body read
    autoregressively, of `answer_nll_tokens` tokens, the stop token included.
    """

    id: str
    score: float
    exact: bool
    prediction: str
    references: list[str]
    labels: dict[str, int | float | str]
    prompt_tokens: int
    prefix_tokens: int
    truncated_tokens: int
    question_tokens_prefilled: int
    generated_tokens: int
    blocks: int
    budget_tokens: int | None
    forwards: dict[str, int]
    seconds: dict[str, float]
    tokens_decided: dict[str, int]
    density: float
    sparse_blocks: int
    shared_tokens: int = 0
    answer_nll: float | None = None
    answer_nll_tokens: int | None = None


class RecallResult(Schema):
    """runner=recall: one example. `context`: where it shares that with others, the name. `evidence_tokens`: of the
    prompt, those that spell what the answer repeats, where the task names that."""

    id: str
    context: str | None = None
    prefix_tokens: int
    budget_tokens: int
    evidence_tokens: int = 0
    rows: list[RecallRow]
