"""What a runner of cells is: it turns examples into rows, and rows into metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel

from mage.errors import UserError

if TYPE_CHECKING:
    from mage.method import Method
    from mage.models.config import BodyConfig
    from mage.models.diffusion import DiffusionSpec
    from runners.cell import Cell
    from runners.settings import ModelSettings
    from runners.sweeping.workbench import Workbench


LONGEST_S = 1e8  # three years; a clock takes no infinite ones


@dataclass(frozen=True, kw_only=True)
class CellRunner(ABC):
    """Options common to all: `timeout_s` for a cell (None: no limit), where loading and each prefill, shared by cells,
    have as long again; `on_error`: whether a sweep goes on after a cell that failed. `row_type` is a line of
    examples.jsonl; `columns` are the metrics, with their heads, of the table that closes a sweep; `needs_reference`:
    compared with a dense cell; `unused`: top-level fields of the config that it does not use, which are no part of its
    cells; `json_line`: a sweep closes with one line of JSON.
    """

    row_type: ClassVar[type[BaseModel]]
    columns: ClassVar[dict[str, str]]
    needs_reference: ClassVar[bool] = False
    unused: ClassVar[tuple[str, ...]] = ()
    json_line: ClassVar[bool] = False
    headline: ClassVar[str]

    timeout_s: float | None = None
    on_error: Literal["continue", "stop"] = "continue"

    def __post_init__(self) -> None:
        if self.timeout_s is not None and not 0 < self.timeout_s <= LONGEST_S:
            allowed = f"Allowed: seconds above 0, up to {LONGEST_S:g}, or null."
            raise UserError(f"runner.timeout_s={self.timeout_s} is out of range. {allowed}")

    @property
    def group_size(self) -> int:
        """Consecutive examples that are computed together."""
        return 1

    def refusal(self, method: Method) -> str | None:
        """Say why this runner has nothing to tell about `method`, or None: most take any."""
        return None

    @property
    def subject(self) -> str:
        """What stands in the place of the task's name where a runner uses none."""
        return ""

    @property
    def workload(self) -> Hashable:
        """What tells the prompts of a runner that uses no task from those of another."""
        return ()

    @property
    def prefixes(self) -> Mapping[str, int]:
        """The lengths of the prefixes that a runner that uses no task works on, by what gives them."""
        return {}

    def fitted(self, model: ModelSettings, *, fuse_commit: bool = False) -> ModelSettings:
        """Return the model that is measured where `model` is asked for: most take it as it is."""
        return model

    def check(  # noqa: B027 - most measure any model
        self, spec: DiffusionSpec, body: BodyConfig, *, fuse_commit: bool = False
    ) -> None:
        """Raise `UserError` where such a model, which writes so, does not give what this runner measures."""

    def questions(self, cell: Cell, bench: Workbench) -> Sequence[tuple[str, Any]]:
        """Return the rows to compute, in order: the id of each, and what `compute` is given for it."""
        return [(question.example.id, question) for question in bench.questions(cell)]

    @abstractmethod
    def compute(self, cell: Cell, bench: Workbench, questions: Sequence[Any]) -> list[BaseModel]:
        """Compute the rows of one group of questions."""

    @abstractmethod
    def summarise(self, rows: Sequence[BaseModel]) -> dict[str, float]:
        """Return the metrics of all rows of a cell, by their stable names."""
