"""runner=fetch: bring what a model needs to this machine and check it, for instance before a job without a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runners.settings import ROOT, check_location, read_settings


@dataclass(frozen=True)
class Fetch:
    """Downloads a model's weights and tokenizer where they are not here, and checks headers, adapter and ids."""

    def run(self, config: Mapping[str, Any]) -> int:
        """Print one line: the model, where it lies, what that takes. Raises `UserError`. Returns the exit status."""
        settings, _ = read_settings(config)
        check_location(settings)

        from mage.models.adapter import WEIGHTS_NAME
        from mage.models.checkpoint import check_ids
        from mage.models.location import locate_adapter
        from runners.checkpoint import inspect
        from runners.feasibility import diffusion_spec

        model = settings.model
        spec = diffusion_spec(model)
        if model.adapter is not None:
            spec.check_adapted()
        checkpoint = inspect(model)
        check_ids(spec, checkpoint.config)
        line = f"{model.name}: {checkpoint.source.place}"
        files = {stored.file for stored in checkpoint.source.stored().values()}
        if size := sum(file.stat().st_size for file in files if file.is_file()):
            line += f" ({_shown(size)})"
        if model.adapter is not None:
            adapter = locate_adapter(model.adapter, ROOT)
            line += f", adapter {adapter} ({_shown((adapter / WEIGHTS_NAME).stat().st_size)})"
        print(line)
        return 0


def _shown(size: int) -> str:
    """A number of bytes for a person."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
