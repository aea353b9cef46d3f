"""runner=kernels: how fast each kernel of attention is at the shapes of a model, and how near to its roof."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mage.errors import UserError, unknown_choice
from runners.plain_record import write_json
from runners.settings import ModelSettings, Settings, read_settings
from runners.writing import check_writable

if TYPE_CHECKING:
    from mage.models.config import BodyConfig

LONGEST = 2**62  # what no memory holds is told as such; what torch cannot count is not
TOLD = ("name", "model", "runner", "budget", "attention")  # what of the config decides a timing


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """Times the kernels that `attention=` names, with those of others beside them, on every pair of `contexts` and
    `batches`, for the body, block size and dtype of the model and the budget of the config.

    No weights are needed: where the model's section holds a body, nothing is fetched. `page_size`: of Quest's bounds.
    `kernels`: some, by name; empty: all. `runs` of each, fewer where they take long.
    """

    contexts: tuple[int, ...]
    batches: tuple[int, ...]
    page_size: int = 16
    kernels: tuple[str, ...] = ()
    runs: int = 20

    def __post_init__(self) -> None:
        several = {"contexts": self.contexts, "batches": self.batches}
        for name, values in several.items():
            if not values or min(values) < 1 or max(values) > LONGEST:
                allowed = f"Allowed: a list of integers from 1 to {LONGEST}"
                raise UserError(f"runner.{name}={list(values)} is out of range. {allowed}.")
        for name, value in {"page_size": self.page_size, "runs": self.runs}.items():
            if value < 1:
                raise UserError(f"runner.{name}={value} is out of range. Allowed: integers from 1 up.")

    def run(self, config: Mapping[str, Any]) -> int:
        """Print a line for each timing and one line of JSON at the end; write all to a file of the config's folder,
        whose name ends with a hash of what was asked for.

        Raises `UserError`. Returns the exit status: 1 where a kernel of ours failed or computed something else.
        """
        settings, budget = read_settings(config)
        model = settings.model

        import torch

        from mage.attention.implementation import operations
        from mage.models.checkpoint import DTYPES
        from mage.timing.kernel_cases import KERNELS
        from mage.timing.kernel_report import report_kernels
        from mage.timing.kernel_shape import KernelShape
        from runners.environment import facts, now
        from runners.feasibility import check_machine

        chosen, started = self.kernels or tuple(KERNELS), now()
        for kernel in chosen:
            if kernel not in KERNELS:
                raise unknown_choice("runner.kernels", kernel, KERNELS)
        if set(chosen) <= {"prefill"} and min(self.batches) > 1:
            raise UserError(
                f"runner.batches={list(self.batches)} with runner.kernels={list(chosen)} times nothing: a prefill is "
                "timed on one row. Allowed: batches with 1 among them, or other kernels beside it."
            )
        check_machine(model)
        check_writable(settings.output_dir, settings.name)
        device, dtype = torch.device(model.device), DTYPES[model.dtype]
        ours, body = operations(settings.attention, device), _body(model)
        if model.threads is not None:
            torch.set_num_threads(model.threads)
        shapes = [
            KernelShape(
                body=body,
                block_size=model.block_size,
                context=context,
                batch=batch,
                budget=budget,
                page_size=self.page_size,
            )
            for context in self.contexts
            for batch in self.batches
        ]
        report = report_kernels(shapes, ours, device, dtype, kernels=chosen, runs=self.runs)
        name = f"kernels_{model.name}_{ours.name}_{model.dtype}_{self._digest(settings)}.json"
        path = Path(settings.output_dir) / settings.name / name
        told = {
            "runner": "kernels",
            "model": model.name,
            "dtype": model.dtype,
            "block_size": model.block_size,
            "budget": settings.budget,
            "page_size": self.page_size,
            "config": {name: config[name] for name in TOLD},
            "environment": {**facts(device, started), "attention": ours.name},
        }
        write_json(path, told | report.record())
        print(json.dumps({"runner": "kernels", "model": model.name, "record": str(path), **report.summary()}))
        return 0 if report.is_good else 1

    def _digest(self, settings: Settings) -> str:
        """Eight hex digits of the options, the budget, and what of the model decides a timing."""
        model = settings.model
        asked = [asdict(self), settings.budget, model.block_size, model.body, model.device, model.threads]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]


def _body(model: ModelSettings) -> BodyConfig:
    """The numbers of the model's body: from its section of the config, else from its checkpoint."""
    from mage.models.families.registry import body_config
    from runners.checkpoint import inspect

    return body_config(model.body) if model.body else inspect(model).config
